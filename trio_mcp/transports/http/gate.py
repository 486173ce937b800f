"""What is checked before a body is read: host, origin, who sends it, and the headers that say what it is.

`admit` does it in the order of docs/design.md. What fails is an HttpRefusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from trio_mcp.transports.http.allowed import Hosts, Origins
from trio_mcp.transports.http.callers import Identify, refuse_repeated
from trio_mcp.transports.http.exchange import HeaderList, HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal

__all__ = ["LOOPBACK_NAMES", "Gate"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CACHE_LIMIT = 256


@dataclass(slots=True)
class Gate:
    """The checks of one server.

    `allowed_hosts`: None serves every Host. `allowed_origins`: None allows only pages of an allowed host. `identify`: None takes
    every request for ANONYMOUS.
    """

    allowed_hosts: Hosts | None = field(default_factory=lambda: Hosts(LOOPBACK_NAMES))
    allowed_origins: Origins | None = None
    identify: Identify | None = None
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    async def admit(self, exchange: HttpExchange) -> None:
        """Check everything but the body, and set `principal`, `token`, `cors`, `takes_json` and `takes_sse` of the exchange.

        Of a preflight (OPTIONS) only host and origin are checked, because browsers send it without credentials. Raises
        HttpRefusal.
        """
        self.check_host(exchange)
        exchange.cors = self._check_origin(exchange)
        if exchange.method == "OPTIONS":
            return
        # Asked every time, because a session id proves nothing.
        if self.identify is not None:
            await self.identify(exchange)
        elif exchange.repeated:
            refuse_repeated(exchange, [])
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
