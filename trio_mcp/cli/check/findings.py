"""What the evidence means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from trio_mcp.cli.check.cookie_findings import cookie_findings
from trio_mcp.cli.check.evidence import STREAM_PATIENCE, Evidence, count
from trio_mcp.cli.check.finding import Finding, Level
from trio_mcp.cli.check.misses import explained

__all__ = ["findings"]


def findings(evidence: Evidence, expected: int | None = None) -> list[Finding]:
    """What must change first; `expected` is how many nodes there should be."""
    found = [
        *_missing(evidence, expected),
        *_nodes(evidence),
        *_misses(evidence),
        *_relays(evidence),
        *cookie_findings(evidence),
        *_streams(evidence),
        *_probes(evidence),
    ]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def _nodes(evidence: Evidence) -> Iterator[Finding]:
    opened = [each for each in evidence.asked if each.what == "initialize" and not each.missed]
    if opened and not any(each.node for each in opened):
        yield Finding(
            Level.CHANGE,
            "sessions are opened, and their ids name no node",
            "Is it trio-mcp that answers? Does a proxy drop or rewrite Mcp-Session-Id?",
        )
    elif len(evidence.nodes) == 1:
        (name,) = evidence.nodes
        yield Finding(
            Level.NOTE,
            f"all sessions were opened on {name}",
            "If there are more nodes: are they ready, has each a --node-id of its own, and does the balancer know them?",
        )
    if len(evidence.boots) > len(evidence.nodes) > 0:
        yield Finding(
            Level.NOTE,
            f"{len(evidence.boots)} processes answer /livez, and sessions are on {len(evidence.nodes)} nodes",
            "A node that drains takes no sessions. Otherwise: has each node a --node-id of its own?",
        )


def _missing(evidence: Evidence, expected: int | None) -> Iterator[Finding]:
    if expected is None:
        return
    names = ", ".join(evidence.nodes) or "none"
    if len(evidence.nodes) < expected:
        yield Finding(
            Level.CHANGE,
            f"{len(evidence.nodes)} of {expected} nodes took part: {names}",
            "Are the others up and ready, and does the balancer know them? `trio-mcp sessions` shows which Redis knows. If "
            "they are, ask with more --connections",
        )
    else:
        yield Finding(Level.OK, f"{len(evidence.nodes)} nodes took part: {names}")


def _misses(evidence: Evidence) -> Iterator[Finding]:
    misses = evidence.misses
    if not misses:
        yield Finding(Level.OK, f"every one of {len(evidence.asked)} requests was answered by the node it was for")
    for kind in dict.fromkeys((each.crowd, each.status, each.reason) for each in misses):
        alike = [each for each in misses if (each.crowd, each.status, each.reason) == kind]
        meaning, step = explained(alike[0])
        methods = ", ".join(dict.fromkeys(each.what for each in alike))
        answer = f"{kind[1] or 'no answer'}{f' {kind[2]}' if kind[2] else ''}"
        crowd = evidence.of(kind[0])
        yield Finding(
            Level.CHANGE,
            f"{kind[0]}, {len(alike)} of {len(crowd)} requests missed: {answer} ({methods}): {meaning}",
            step,
            alike[0].said,
        )


def _relays(evidence: Evidence) -> Iterator[Finding]:
    bare = evidence.of("without cookies")
    relayed = count(bare, lambda each: each.relay)
    if relayed:
        text = f"without cookies, {relayed} of {len(bare)} requests were relayed from node to node"
        yield Finding(Level.OK, f"{text}: clients that keep no cookie are served, a hop later")
    kept = [each for each in evidence.of("with cookies") if each.sent_cookie]
    strays = count(kept, lambda each: each.relay)
    if strays:
        yield Finding(
            Level.CHANGE,
            f"{strays} of {len(kept)} requests that brought their cookie were relayed: the balancer does not go by it",
            "All its services for the endpoint need the same cookie name and the same server URLs, and a strategy that "
            "heeds cookies (Traefik: wrr). If a node restarted meanwhile, check again",
        )


def _streams(evidence: Evidence) -> Iterator[Finding]:
    held = count(evidence.streams, lambda each: each.buffered)
    times = [each.seconds for each in evidence.streams if each.seconds is not None]
    if held:
        yield Finding(
            Level.CHANGE,
            f"{held} of {len(evidence.streams)} streams had no byte within {STREAM_PATIENCE:g} s: something holds them back",
            "Take `buffering` (Traefik) or `proxy_buffering` (nginx) off the endpoint, and compression of text/event-stream",
        )
    elif times:
        yield Finding(Level.OK, f"streams begin at once: the first bytes came after {max(times) * 1000:.0f} ms at most")


def _probes(evidence: Evidence) -> Iterator[Finding]:
    for path in dict.fromkeys(probe.path for probe in evidence.probes):
        probes = [probe for probe in evidence.probes if probe.path == path]
        boots = {probe.boot for probe in probes if probe.boot}
        if boots:
            text = f"{path} is reachable through the balancer, and {len(boots)} process{'es' if len(boots) > 1 else ''} answered"
        else:
            text = f"{path} is not reachable through the balancer"
        yield Finding(Level.OK, f"{text}; it need not be")
    if any(probe.sets_cookie for probe in evidence.probes):
        yield Finding(
            Level.CHANGE,
            "a cookie comes with answers outside the endpoint as well: all traffic is pinned to nodes",
            "Give the endpoint a router and a service of its own, and only that one the cookie",
        )
