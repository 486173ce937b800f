"""Asking the server's `authenticate` function who sent a request, and what becomes of a request when that fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, cast

import trio

from trio_mcp.auth.principal import ANONYMOUS, Authenticate, CannotTell, HttpRequestView, Principal
from trio_mcp.dispatch.user_code import call_user, report, user_code, without_crash
from trio_mcp.features.callables import is_async
from trio_mcp.observability.logs import leaves
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal

__all__ = ["Authenticator", "authenticator", "identify"]

logger = logging.getLogger("trio_mcp.http")

AUTHENTICATE_SECONDS = 10.0
"""For one judgement. An authorization server that hangs must not collect requests without bound."""

RETRY_AFTER = b"5"
"""Seconds until a client that could not be judged should ask again."""

Authenticator: TypeAlias = Callable[[HttpRequestView], Awaitable[object]]
"""An `authenticate` function that never blocks the event loop."""

_CANNOT_TELL = (CannotTell, OSError, trio.TooSlowError)


def authenticator(authenticate: Authenticate, threads: int) -> Authenticator:
    """The function as it is asked: a sync one in one of so many worker threads. They are not those of sync handlers, which may all be busy."""
    if is_async(authenticate):
        return cast("Authenticator", authenticate)
    return partial(call_user, authenticate, is_async=False, limiter=trio.CapacityLimiter(threads))


async def identify(authenticate: Authenticator, exchange: HttpExchange) -> Principal:
    """Who sent the request. Raises HttpRefusal: 401 for nobody, 503 when that cannot be told now, 500 when the function failed."""
    try:
        with trio.fail_after(AUTHENTICATE_SECONDS), user_code():
            principal = await authenticate(exchange)
    except Exception as error:  # behind the boundary: its fault ends this request, and is told without its details
        raise _refusal_for(error) from None
    except BaseExceptionGroup as group:
        raise without_crash(logger, "authenticate failed", group) from None
    if principal is None:
        raise HttpRefusal(401, "Authentication is required", [(b"www-authenticate", b"Bearer")])
    if not isinstance(principal, Principal):
        fault = TypeError(f"authenticate returned {type(principal).__name__}: return a Principal, or None for a 401")
        raise _refusal_for(fault)
    if not (principal.subject or principal.client_id) and principal is not ANONYMOUS:
        # An empty header or claim made into a name: everybody who sends one would be the same caller.
        raise HttpRefusal(401, "Authentication is required", [(b"www-authenticate", b"Bearer")], reason="no_subject")
    return principal


def _refusal_for(error: Exception) -> HttpRefusal:
    if all(isinstance(leaf, _CANNOT_TELL) for leaf in leaves(error)):
        why = "; ".join(f"{type(leaf).__name__}: {leaf}".removesuffix(": ") for leaf in leaves(error))[:256]
        return HttpRefusal(
            503,
            "Whether the credentials are good cannot be told now; try again",
            [(b"retry-after", RETRY_AFTER)],
            reason="cannot_authenticate",
            data={"reason": "cannot_authenticate"},
            why=why,
        )
    reference = report(logger, "authenticate failed", error)
    return HttpRefusal(500, f"Internal error (ref {reference})", reason="authenticate_failed", logged=True)
