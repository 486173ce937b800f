"""What the evidence means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from trio_mcp.cli.check.cookies import Cookie
from trio_mcp.cli.check.evidence import STREAM_PATIENCE, Evidence, count
from trio_mcp.cli.check.misses import explained

__all__ = ["Finding", "Level", "findings", "ordered"]


class Level(Enum):
    """How much a finding matters; the report has them in this order."""

    CHANGE = "change"
    """Requests fail, or will."""
    NOTE = "note"
    """It may be intended."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the check found: `step` says what to do, `said` quotes the server's own message."""

    level: Level
    text: str
    step: str = ""
    said: str = ""


def findings(evidence: Evidence, expected: int | None = None) -> list[Finding]:
    """What the evidence shows, what must change first; `expected` is how many nodes there should be."""
    found = [
        *_missing(evidence, expected),
        *_nodes(evidence),
        *_misses(evidence),
        *_relays(evidence),
        *_cookies(evidence),
        *_streams(evidence),
        *_probes(evidence),
    ]
    return ordered(found)


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """What must change first, then what may be intended."""
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
    for kind in dict.fromkeys((each.kind, each.status, each.reason) for each in misses):
        alike = [each for each in misses if (each.kind, each.status, each.reason) == kind]
        meaning, step = explained(alike[0])
        methods = ", ".join(dict.fromkeys(each.what for each in alike))
        answer = f"{kind[1] or 'no answer'}{f' {kind[2]}' if kind[2] else ''}"
        requests = evidence.of(kind[0])
        yield Finding(
            Level.CHANGE,
            f"{kind[0]}, {len(alike)} of {len(requests)} requests missed: {answer} ({methods}): {meaning}",
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


def _cookies(evidence: Evidence) -> Iterator[Finding]:
    """The cookie that pins a client to a node saves a hop between nodes; no client depends on it."""
    for cookie in evidence.cookies:
        faults = list(_cookie_faults(cookie, evidence))
        yield from faults
        if not faults:
            yield Finding(Level.OK, f"{cookie.shown}: as it should be")
    if not evidence.cookies and len(evidence.nodes) > 1 and any(each.relay for each in evidence.asked):
        yield Finding(
            Level.NOTE,
            "no cookie came: every client takes the extra hop",
            "A sticky cookie saves it for clients that keep cookies: `trio-mcp export traefik` prints such a configuration",
        )


def _cookie_faults(cookie: Cookie, evidence: Evidence) -> Iterator[Finding]:
    yield from _cookie_path(cookie, evidence.path)
    yield from _cookie_secure(cookie, is_secure=evidence.is_secure)
    yield from _cookie_age(cookie)
    if cookie.attribute("httponly") is None:
        yield Finding(Level.NOTE, f"{cookie.shown}: scripts can read it", "Add HttpOnly (Traefik: httpOnly: true)")
    if (cookie.attribute("samesite") or "").lower() != "strict":
        yield Finding(
            Level.NOTE, f"{cookie.shown}: other sites' pages send it", "Add SameSite=Strict (Traefik: sameSite: strict)"
        )


def _cookie_path(cookie: Cookie, endpoint: str) -> Iterator[Finding]:
    path = cookie.path(endpoint)
    step = f"Set Path={endpoint.rstrip('/') or '/'} (Traefik: path: {endpoint.rstrip('/') or '/'})"
    if not cookie.covers(endpoint, endpoint):
        yield Finding(Level.CHANGE, f"{cookie.shown}: clients never send it to {endpoint}: its path is {path}", step)
    elif len(path.rstrip("/")) < len(endpoint.rstrip("/")):
        yield Finding(Level.CHANGE, f"{cookie.shown}: it pins what is not MCP as well: its path is {path}", step)


def _cookie_secure(cookie: Cookie, *, is_secure: bool) -> Iterator[Finding]:
    if cookie.secure and not is_secure:
        yield Finding(
            Level.CHANGE,
            f"{cookie.shown}: over plain http clients keep a Secure cookie, and never send it",
            "Serve https; or, in development only, take Secure off (Traefik: secure: false)",
        )
    elif is_secure and not cookie.secure:
        yield Finding(
            Level.CHANGE,
            f"{cookie.shown}: it would be sent over plain http as well",
            "Add Secure (Traefik: secure: true)",
        )


def _cookie_age(cookie: Cookie) -> Iterator[Finding]:
    limits = [name for name in ("Max-Age", "Expires") if cookie.attribute(name.lower()) is not None]
    if limits:
        yield Finding(
            Level.CHANGE,
            f"{cookie.shown}: it expires under a session in use: balancers write it once, and never refresh it",
            f"Take {' and '.join(limits)} off (Traefik: no maxAge)",
        )
