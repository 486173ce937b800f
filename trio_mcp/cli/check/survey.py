"""The plan: which clients come, how many, and what they ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import trio

from trio_mcp.cli.check.cookies import Jar
from trio_mcp.cli.check.evidence import CROWDS, Crowd, Evidence, Probe, count
from trio_mcp.cli.check.visitor import Visitor
from trio_mcp.cli.wire import Wire, WireError, fetch

__all__ = ["survey"]

PROBES = ("/livez", "/readyz")

ENOUGH_HELD = 2
"""Streams held back: each costs seconds, and the next would tell nothing new."""


async def survey(url: str, wire: Callable[[str], Wire], *, connections: int, silence: float) -> Evidence:
    """Send `connections` clients of each kind, one after the other; `wire` makes the way to a URL.

    Raises WireError when nobody is there at all, and AuthorizationRequired.
    """
    evidence = Evidence(url)
    for crowd in CROWDS:
        for _ in range(connections):
            await _visit(evidence, crowd, wire(url), silence)
    for path in PROBES:
        for _ in range(connections):
            evidence.probes.append(await _probe(path, wire(_at(url, path)), silence))
    return evidence


async def _visit(evidence: Evidence, crowd: Crowd, wire: Wire, silence: float) -> None:
    jar = Jar(evidence.path, secure=evidence.is_secure) if crowd == "with cookies" else None
    visitor = Visitor(crowd, wire, jar, silence)
    if crowd == "2026-07-28":
        await visitor.ask_without_session()
    else:
        await visitor.hold_session(stream=count(evidence.asked, lambda each: each.buffered) < ENOUGH_HELD)
    if visitor.turned_away is not None and not evidence.asked:
        raise visitor.turned_away
    evidence.asked += visitor.asked
    known = {(cookie.name, cookie.attributes) for cookie in evidence.cookies}
    evidence.cookies += [each for each in visitor.cookies if (each.name, each.attributes) not in known][:1]


async def _probe(path: str, wire: Wire, silence: float) -> Probe:
    try:
        with trio.fail_after(silence):
            head, body = await fetch(wire, "GET")
    except (WireError, trio.TooSlowError):
        return Probe(path, 0, "", sets_cookie=False)
    return Probe(path, head.status, _boot(body), sets_cookie=bool(head.cookies))


def _boot(body: bytes) -> str:
    """Empty for what no node of ours says."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("boot", "")) if isinstance(said, dict) else ""


def _at(url: str, path: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
