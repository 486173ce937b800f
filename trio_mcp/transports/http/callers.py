"""Who sends a request, as a function of the user says: the caller is set on the exchange, or an HttpRefusal is raised.

Bearer tokens are judged in `http/authorization`, behind the same boundary (`asked`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, TypeVar, cast

import trio

from trio_mcp.auth.principal import ANONYMOUS, Authenticate, CannotTell, HttpRequestView, Principal
from trio_mcp.dispatch.user_code import call_user, report, user_code, without_crash
from trio_mcp.features.functions import is_async
from trio_mcp.observability.logs import leaves
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal
from trio_mcp.transports.request_head import HeaderList

__all__ = ["RETRY_AFTER", "Identify", "asked", "by_function", "cannot_authenticate", "refuse_repeated"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("trio_mcp.http")

Identify: TypeAlias = Callable[[HttpExchange], Awaitable[None]]
"""Sets the caller of an exchange, or raises HttpRefusal."""

AUTHENTICATE_SECONDS = 10.0
"""For one request: they must not pile up while an authorization server hangs."""

RETRY_AFTER: tuple[bytes, bytes] = (b"retry-after", b"5")
"""In seconds, for a 503 because it cannot be told who sends the request."""

_CANNOT_TELL = (CannotTell, OSError, trio.TooSlowError)
_CHALLENGE = (b"www-authenticate", b"Bearer")


def by_function(authenticate: Authenticate, threads: int) -> Identify:
    """By a function of the user. A sync one runs in one of `threads` worker threads of its own: those of sync handlers may be busy."""
    ask = (
        cast("Callable[[HttpRequestView], Awaitable[object]]", authenticate)
        if is_async(authenticate)
        else partial(call_user, authenticate, is_async=False, limiter=trio.CapacityLimiter(threads))
    )

    async def identify(exchange: HttpExchange) -> None:
        challenge = b'Bearer error="invalid_request", error_description="Authorization comes more than once"'
        refuse_repeated(exchange, [(b"www-authenticate", challenge)])
        exchange.principal = _checked(await asked(partial(ask, exchange)))

    return identify


def refuse_repeated(exchange: HttpExchange, headers: HeaderList) -> None:
    """400 for two `Authorization` headers: a proxy in front of us may have checked the one that we would not."""
    if b"authorization" in exchange.head.repeated:
        raise HttpRefusal(400, "Authorization comes more than once", headers, reason="authorization")


async def asked(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns. Raises HttpRefusal: 503 where it cannot tell now, or takes too long, and 500 where it crashes."""
    try:
        with trio.fail_after(AUTHENTICATE_SECONDS), user_code():
            return await ask()
    except Exception as error:  # behind the boundary: what it raises ends this request, without its details
        raise _refusal_for(error) from None
    except BaseExceptionGroup as group:
        raise without_crash(logger, "authenticate failed", group) from None


def cannot_authenticate(why: str, headers: HeaderList) -> HttpRefusal:
    """The 503 without a challenge: after a 401 the client would drop a good token. `why` is for the log."""
    return HttpRefusal(
        503,
        "The credentials cannot be checked now; try again later",
        headers,
        reason="cannot_authenticate",
        data={"reason": "cannot_authenticate"},
        why=why,
    )


def _checked(principal: object) -> Principal:
    """401 for None, 500 for what is no Principal."""
    if principal is None:
        raise HttpRefusal(401, "Authentication is required", [_CHALLENGE])
    if not isinstance(principal, Principal):
        fault = TypeError(f"authenticate returned {type(principal).__name__}: return a Principal, or None for a 401")
        raise _refusal_for(fault)
    if not (principal.subject or principal.client_id) and principal is not ANONYMOUS:
        # Made from an empty header or claim: all who send one would be the same caller.
        raise HttpRefusal(401, "Authentication is required", [_CHALLENGE], reason="no_subject")
    return principal


def _refusal_for(error: Exception) -> HttpRefusal:
    if all(isinstance(leaf, _CANNOT_TELL) for leaf in leaves(error)):
        why = "; ".join(f"{type(leaf).__name__}: {leaf}".removesuffix(": ") for leaf in leaves(error))[:256]
        return cannot_authenticate(why, [RETRY_AFTER])
    reference = report(logger, "authenticate failed", error)
    return HttpRefusal(500, f"Internal error (ref {reference})", reason="authenticate_failed", logged=True)
