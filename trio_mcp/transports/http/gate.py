"""What is checked before a body is read: host, origin, who sends it, and the headers that say what it is.

`admit` does it in the order of docs/design.md. What fails is an HttpRefusal.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, cast
from urllib.parse import urlsplit

import trio

from trio_mcp.auth.principal import ANONYMOUS, Authenticate, CannotTell, HttpRequestView, Principal
from trio_mcp.dispatch.user_code import call_user, report, user_code, without_crash
from trio_mcp.features.functions import is_async
from trio_mcp.observability.logs import leaves
from trio_mcp.transports.http.allowed import Hosts, Origins
from trio_mcp.transports.http.exchange import HeaderList, HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal

__all__ = ["Authenticator", "Gate", "authenticator"]

logger: logging.Logger = logging.getLogger("trio_mcp.http")

AUTHENTICATE_SECONDS = 10.0
"""For one call of `authenticate`: requests must not pile up while an authorization server hangs."""

RETRY_AFTER = b"5"
"""In seconds, for a 503 because `authenticate` could not tell."""

Authenticator: TypeAlias = Callable[[HttpRequestView], Awaitable[object]]
"""An `authenticate` function that never blocks the event loop."""

_CANNOT_TELL = (CannotTell, OSError, trio.TooSlowError)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CACHE_LIMIT = 256


@dataclass(slots=True)
class Gate:
    """The checks of one server.

    `allowed_hosts`: None serves every Host. `allowed_origins`: None allows only pages of an allowed host. `authenticate`: None
    takes every request for ANONYMOUS.
    """

    allowed_hosts: Hosts | None = field(default_factory=lambda: Hosts(LOOPBACK_NAMES))
    allowed_origins: Origins | None = None
    authenticate: Authenticator | None = None
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    async def admit(self, exchange: HttpExchange) -> None:
        """Check everything but the body, and set `principal`, `cors`, `takes_json` and `takes_sse` of the exchange.

        Of a preflight (OPTIONS) only host and origin are checked, because browsers send it without credentials. Raises
        HttpRefusal.
        """
        self.check_host(exchange)
        exchange.cors = self._check_origin(exchange)
        if exchange.method == "OPTIONS":
            return
        exchange.principal = await self._check_principal(exchange)
        if b"mcp-session-id" in exchange.repeated:
            raise HttpRefusal(400, "Mcp-Session-Id comes more than once")
        _read_accept(exchange)
        if exchange.method == "POST":
            _check_media(exchange)

    def check_host(self, exchange: HttpExchange) -> None:
        """421 for a Host that is not allowed: a page that rebinds DNS must not reach a local server (2025-11-25 basic/transports)."""
        host = exchange.headers.get(b"host", b"")
        known = self._known_hosts.get(host)
        if known is None:
            known = self._remember(host, self._host_allowed(host.decode("latin-1").lower()))
        if not known:
            raise HttpRefusal(
                421,
                "Host is not allowed here; the server's --allowed-hosts lists those that are",
                host=host.decode("latin-1")[:128],
                flag="--allowed-hosts",
            )

    def _check_origin(self, exchange: HttpExchange) -> HeaderList:
        """CORS headers for an allowed Origin, none without one; 403 for any other (2025-11-25 basic/transports, security)."""
        origin = exchange.headers.get(b"origin")
        if origin is None:
            return []
        if not self._origin_allowed(origin.decode("latin-1").lower(), exchange):
            raise HttpRefusal(
                403,
                "Origin is not allowed here; the server's --allowed-origins lists those that are",
                origin=origin.decode("latin-1")[:128],
                flag="--allowed-origins",
            )
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"Mcp-Session-Id, WWW-Authenticate"),
            (b"vary", b"Origin"),
        ]

    async def _check_principal(self, exchange: HttpExchange) -> Principal:
        """Who sends the request. Asked every time, because a session id proves nothing."""
        if b"authorization" in exchange.repeated:
            # A proxy in front of us may have checked the one that we would not.
            challenge = b'Bearer error="invalid_request", error_description="Authorization comes more than once"'
            headers = [] if self.authenticate is None else [(b"www-authenticate", challenge)]
            raise HttpRefusal(400, "Authorization comes more than once", headers, reason="authorization")
        if self.authenticate is None:
            return ANONYMOUS
        return await _identify(self.authenticate, exchange)

    def _remember(self, host: bytes, allowed: bool) -> bool:
        if len(self._known_hosts) >= _CACHE_LIMIT:
            self._known_hosts.clear()
        self._known_hosts[host] = allowed
        return allowed

    def _host_allowed(self, host: str) -> bool:
        return self.allowed_hosts is None or host in self.allowed_hosts

    def _origin_allowed(self, origin: str, exchange: HttpExchange) -> bool:
        if self.allowed_origins is not None and origin in self.allowed_origins:
            return True
        # A page that this very host has served.
        host = exchange.headers.get(b"host", b"").decode("latin-1").lower()
        name = _authority(origin)
        return bool(name) and name == host and self.allowed_hosts is not None and self._host_allowed(name)


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""  # such as "http://[", which no browser sends


_accept_cache: dict[bytes, tuple[bool, bool]] = {}


def _read_accept(exchange: HttpExchange) -> None:
    """What `Accept` allows; everything where it is left out (RFC 9110 §12.5.1)."""
    raw = exchange.headers.get(b"accept", b"*/*")
    if b"accept" in exchange.repeated:
        raw = ", ".join(exchange.header_list(b"accept")).encode("latin-1")
    known = _accept_cache.get(raw)
    if known is None:
        if len(_accept_cache) >= _CACHE_LIMIT:
            _accept_cache.clear()
        known = _accept_cache[raw] = _parse_accept(raw.decode("latin-1"))
    exchange.takes_json, exchange.takes_sse = known


def _check_media(exchange: HttpExchange) -> None:
    """Check the media types of a POST: 415 unless the body is said to be JSON, 406 for a client that takes neither JSON nor event streams."""
    if not _is_json(exchange.headers.get(b"content-type", b"")):
        raise HttpRefusal(415, "Content-Type must be application/json")
    if not (exchange.takes_json or exchange.takes_sse):
        raise HttpRefusal(406, "Accept must allow application/json or text/event-stream")


def _parse_accept(value: str) -> tuple[bool, bool]:
    """Whether it allows JSON, and whether it allows event streams."""
    ranges = set()
    for item in value.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        if not any(parameter.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters):
            ranges.add(media)
    return (
        not ranges.isdisjoint({"application/json", "application/*", "*/*"}),
        not ranges.isdisjoint({"text/event-stream", "text/*", "*/*"}),
    )


def _is_json(content_type: bytes) -> bool:
    """Parameters such as charset are fine."""
    return content_type == b"application/json" or content_type.split(b";", 1)[0].strip().lower() == b"application/json"


def authenticator(authenticate: Authenticate, threads: int) -> Authenticator:
    """`authenticate` as it is called here: a sync function runs in one of `threads` worker threads.

    They are its own: those of sync handlers may all be busy.
    """
    if is_async(authenticate):
        return cast("Authenticator", authenticate)
    return partial(call_user, authenticate, is_async=False, limiter=trio.CapacityLimiter(threads))


async def _identify(authenticate: Authenticator, exchange: HttpExchange) -> Principal:
    """What `authenticate` says. 401 for None, 503 where it cannot tell now, 500 where it crashes or returns something else."""
    try:
        with trio.fail_after(AUTHENTICATE_SECONDS), user_code():
            principal = await authenticate(exchange)
    except Exception as error:  # behind the boundary: what it raises ends this request, without its details
        raise _refusal_for(error) from None
    except BaseExceptionGroup as group:
        raise without_crash(logger, "authenticate failed", group) from None
    if principal is None:
        raise HttpRefusal(401, "Authentication is required", [(b"www-authenticate", b"Bearer")])
    if not isinstance(principal, Principal):
        fault = TypeError(f"authenticate returned {type(principal).__name__}: return a Principal, or None for a 401")
        raise _refusal_for(fault)
    if not (principal.subject or principal.client_id) and principal is not ANONYMOUS:
        # Made from an empty header or claim: all who send one would be the same caller.
        raise HttpRefusal(401, "Authentication is required", [(b"www-authenticate", b"Bearer")], reason="no_subject")
    return principal


def _refusal_for(error: Exception) -> HttpRefusal:
    if all(isinstance(leaf, _CANNOT_TELL) for leaf in leaves(error)):
        why = "; ".join(f"{type(leaf).__name__}: {leaf}".removesuffix(": ") for leaf in leaves(error))[:256]
        return HttpRefusal(
            503,
            "The credentials cannot be checked now; try again later",
            [(b"retry-after", RETRY_AFTER)],
            reason="cannot_authenticate",
            data={"reason": "cannot_authenticate"},
            why=why,
        )
    reference = report(logger, "authenticate failed", error)
    return HttpRefusal(500, f"Internal error (ref {reference})", reason="authenticate_failed", logged=True)
