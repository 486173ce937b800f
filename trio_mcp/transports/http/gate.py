"""What a request must be before its body is looked at: from an allowed host and origin, of the right kind, authenticated."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from trio_mcp.auth.principal import ANONYMOUS, Authenticate, Principal
from trio_mcp.observability.logs import event
from trio_mcp.streams.event_log import Answer
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal

__all__ = ["Accepts", "Gate", "accepts", "is_json", "may_be_json"]

logger = logging.getLogger("trio_mcp.http")

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CACHE_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Accepts:
    """Which of our two content types the client takes."""

    json: bool
    sse: bool


@dataclass(slots=True)
class Gate:
    """Allow-lists None mean: anything goes. Entries are host names, `name:port`, origins, or `*`."""

    allowed_hosts: frozenset[str] | None = LOOPBACK_NAMES
    allowed_origins: frozenset[str] | None = None
    authenticate: Authenticate | None = None
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    def check_host(self, exchange: HttpExchange) -> None:
        """421 for a Host that is not ours: a page that rebinds DNS must not reach a local server."""
        host = exchange.headers.get(b"host", b"")
        known = self._known_hosts.get(host)
        if known is None:
            known = self._remember(host, self._host_allowed(host.decode("latin-1").lower()))
        if not known:
            event(logger, logging.WARNING, "host refused", host=host.decode("latin-1")[:128], flag="--allowed-hosts")
            raise HttpRefusal(421, "Host is not allowed here; the server's --allowed-hosts lists those that are")

    def check_origin(self, exchange: HttpExchange) -> HeaderList:
        """403 for a foreign Origin (2025-11-25 transports, security); CORS headers for an allowed one."""
        origin = exchange.headers.get(b"origin")
        if origin is None:
            return []
        if not self._origin_allowed(origin.decode("latin-1").lower(), exchange):
            event(
                logger,
                logging.WARNING,
                "origin refused",
                origin=origin.decode("latin-1")[:128],
                flag="--allowed-origins",
            )
            raise HttpRefusal(403, "Origin is not allowed here; the server's --allowed-origins lists those that are")
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"Mcp-Session-Id, WWW-Authenticate"),
            (b"vary", b"Origin"),
        ]

    async def check_principal(self, exchange: HttpExchange) -> Principal:
        """401 for who is nobody; asked on every request, for a session id proves nothing."""
        if self.authenticate is None:
            return ANONYMOUS
        principal = await self.authenticate(exchange)
        if principal is None:
            raise HttpRefusal(401, "Authentication is required", [(b"www-authenticate", b"Bearer")])
        return principal

    def _remember(self, host: bytes, allowed: bool) -> bool:
        if len(self._known_hosts) >= _CACHE_LIMIT:
            self._known_hosts.clear()
        self._known_hosts[host] = allowed
        return allowed

    def _host_allowed(self, host: str) -> bool:
        allowed = self.allowed_hosts
        return allowed is None or "*" in allowed or host in allowed or _without_port(host) in allowed

    def _origin_allowed(self, origin: str, exchange: HttpExchange) -> bool:
        allowed = self.allowed_origins or frozenset()
        if "*" in allowed or origin in allowed:
            return True
        # The same site: a page this host served itself.
        host = exchange.headers.get(b"host", b"").decode("latin-1").lower()
        name = _authority(origin)
        return bool(name) and name == host and self.allowed_hosts is not None and self._host_allowed(name)


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""  # such as "http://[": no browser says so, and nobody is allowed by it


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


_accept_cache: dict[bytes, Accepts] = {}


def accepts(exchange: HttpExchange) -> Accepts:
    """What `Accept` allows; absent means anything (RFC 9110 §12.5.1)."""
    raw = exchange.headers.get(b"accept", b"*/*")
    if exchange.repeats(b"accept"):
        raw = ", ".join(exchange.header_list(b"accept")).encode("latin-1")
    known = _accept_cache.get(raw)
    if known is None:
        if len(_accept_cache) >= _CACHE_LIMIT:
            _accept_cache.clear()
        known = _accept_cache[raw] = _parse_accept(raw.decode("latin-1"))
    return known


def may_be_json(exchange: HttpExchange, answer: Answer) -> bool:
    """Whether a whole reply goes out as JSON; to who takes only a stream just an error does, for its status's sake."""
    return accepts(exchange).json or answer.status != 200


def _parse_accept(value: str) -> Accepts:
    ranges = set()
    for item in value.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        if not any(parameter.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters):
            ranges.add(media)
    return Accepts(
        json=not ranges.isdisjoint({"application/json", "application/*", "*/*"}),
        sse=not ranges.isdisjoint({"text/event-stream", "text/*", "*/*"}),
    )


def is_json(exchange: HttpExchange) -> bool:
    """Whether the body says it is JSON; parameters such as charset are fine."""
    raw = exchange.headers.get(b"content-type", b"")
    return raw == b"application/json" or raw.split(b";", 1)[0].strip().lower() == b"application/json"
