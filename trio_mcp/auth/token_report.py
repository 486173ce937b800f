"""Why a configuration accepts or refuses a token, for the person who runs the server: `trio-mcp token`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.jws import Jws, json_object, read_jws
from trio_mcp.auth.static_tokens import StaticTokenVerifier

__all__ = ["TokenReport", "report_on"]

_SHOWN_CLAIMS = ("iss", "aud", "scope", "scp", "client_id", "azp")
"""Those that decide, and none that tells of a person."""

_TIMES = ("exp", "nbf", "iat")


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What to print. The token itself is in none of the lines."""

    accepted: bool
    reason: str
    """A label of `Refusal`; empty for a token that is accepted, `cannot_tell` when the keys cannot be fetched."""
    lines: tuple[str, ...]


async def report_on(auth: BearerAuth, token: str, *, now: float) -> TokenReport:
    """Judge `token` as a request with it would be judged, and say what of it decided. `now` is Unix time in seconds.

    The tasks of `auth` must be running, or its keys cannot be had.
    """
    judgement = await auth.judge([f"Bearer {token}"])
    jws = read_jws(token, max_bytes=len(token))
    fixed = isinstance(auth.verifier, StaticTokenVerifier)
    lines = [_outcome(judgement)] if fixed else [_outcome(judgement), f"this server: {auth.resource}"]
    if auth.required_scopes:
        lines.append(f"every request needs: {' '.join(auth.required_scopes)}")
    if isinstance(jws, Jws):
        lines += _described(jws, now)
    elif not fixed:
        lines.append("the token is opaque: only its issuer can read it")
    match judgement:
        case Allowed(_, principal):
            return TokenReport(True, "", (*lines, f"in log lines it is principal {principal.log_name}"))
        case Refused(reason):
            return TokenReport(False, reason.value, tuple(lines))
        case Unavailable():
            return TokenReport(False, "cannot_tell", tuple(lines))


def _outcome(judgement: Judgement) -> str:
    match judgement:
        case Allowed(token):
            scopes = " ".join(token.scopes) or "none"
            if not token.subject:
                return f"accepted: client {token.client_id!r}, no user; scopes {scopes}"
            return f"accepted: user {token.subject!r}, client {token.client_id!r}, scopes {scopes}"
        case Refused(reason, description):
            return f"refused with {reason.status}: {description} ({reason.value})"
        case Unavailable(why):
            return f"cannot be judged now, clients get 503: {why}"


def _described(jws: Jws, now: float) -> Iterator[str]:
    yield f"signed with {jws.algorithm}, key {jws.kid!r}, typ {jws.type!r}"
    claims: Mapping[str, Any] = json_object(jws.payload) or {}
    for name in _SHOWN_CLAIMS:
        if name in claims:
            yield f"{name}: {_short(claims[name])}"
    for name in _TIMES:
        if name in claims:
            yield f"{name}: {_moment(claims[name], now)}"


def _short(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return ascii(text)[1:-1][:200]


def _moment(value: object, now: float) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**35:
        return f"{_short(value)} is no time"
    seconds = value - now
    when = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{when}, {'in ' if seconds >= 0 else ''}{abs(seconds):.0f} s{'' if seconds >= 0 else ' ago'}"
