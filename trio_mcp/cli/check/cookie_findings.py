"""What is right and wrong with the cookie that pins a client to its node: a shortcut, never what makes it work."""

from __future__ import annotations

from collections.abc import Iterator

from trio_mcp.cli.check.cookies import Cookie
from trio_mcp.cli.check.evidence import Evidence
from trio_mcp.cli.check.finding import Finding, Level

__all__ = ["cookie_findings"]


def cookie_findings(evidence: Evidence) -> Iterator[Finding]:
    """Of each kind of cookie that came."""
    for cookie in evidence.cookies:
        faults = list(_faults(cookie, evidence))
        yield from faults
        if not faults:
            yield Finding(Level.OK, f"{cookie.shown}: as it should be")
    if not evidence.cookies and len(evidence.nodes) > 1 and any(each.relay for each in evidence.asked):
        yield Finding(
            Level.NOTE,
            "no cookie came: every client takes the extra hop",
            "A sticky cookie saves it for clients that keep cookies: `trio-mcp export traefik` prints such a configuration",
        )


def _faults(cookie: Cookie, evidence: Evidence) -> Iterator[Finding]:
    yield from _path(cookie, evidence.path)
    yield from _secure(cookie, is_secure=evidence.is_secure)
    yield from _age(cookie)
    if cookie.attribute("httponly") is None:
        yield Finding(Level.NOTE, f"{cookie.shown}: scripts can read it", "Add HttpOnly (Traefik: httpOnly: true)")
    if (cookie.attribute("samesite") or "").lower() != "strict":
        yield Finding(
            Level.NOTE, f"{cookie.shown}: other sites' pages send it", "Add SameSite=Strict (Traefik: sameSite: strict)"
        )


def _path(cookie: Cookie, endpoint: str) -> Iterator[Finding]:
    path = cookie.path(endpoint)
    step = f"Set Path={endpoint.rstrip('/') or '/'} (Traefik: path: {endpoint.rstrip('/') or '/'})"
    if not cookie.covers(endpoint, endpoint):
        yield Finding(Level.CHANGE, f"{cookie.shown}: clients never send it to {endpoint}: its path is {path}", step)
    elif len(path.rstrip("/")) < len(endpoint.rstrip("/")):
        yield Finding(Level.CHANGE, f"{cookie.shown}: it pins what is not MCP as well: its path is {path}", step)


def _secure(cookie: Cookie, *, is_secure: bool) -> Iterator[Finding]:
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


def _age(cookie: Cookie) -> Iterator[Finding]:
    limits = [name for name in ("Max-Age", "Expires") if cookie.attribute(name.lower()) is not None]
    if limits:
        yield Finding(
            Level.CHANGE,
            f"{cookie.shown}: it expires under a session in use: balancers write it once, and never refresh it",
            f"Take {' and '.join(limits)} off (Traefik: no maxAge)",
        )
