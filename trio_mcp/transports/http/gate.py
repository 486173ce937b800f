"""What a request must be before its body is looked at: from an allowed host and origin, of the right kind, authenticated."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.streams.event_log import Answer
from trio_mcp.transports.http.allowed import Hosts, Origins
from trio_mcp.transports.http.authentication import Authenticator, identify
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal

__all__ = ["Accepts", "Gate", "accepts", "is_json", "may_be_json"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CACHE_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Accepts:
    """Which of our two content types the client takes."""

    json: bool
    sse: bool


@dataclass(slots=True)
class Gate:
    """Without `allowed_hosts` every Host is served; without `allowed_origins` only pages of an allowed host are."""

    allowed_hosts: Hosts | None = field(default_factory=lambda: Hosts(LOOPBACK_NAMES))
    allowed_origins: Origins | None = None
    authenticate: Authenticator | None = None
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    def check_host(self, exchange: HttpExchange) -> None:
        """421 for a Host that is not ours: a page that rebinds DNS must not reach a local server."""
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

    def check_origin(self, exchange: HttpExchange) -> HeaderList:
        """403 for a foreign Origin (2025-11-25 transports, security); CORS headers for an allowed one."""
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

    async def check_principal(self, exchange: HttpExchange) -> Principal:
        """Who asks; judged on every request, for a session id proves nothing. Raises HttpRefusal, see `identify`."""
        if exchange.repeats(b"authorization"):
            # A proxy in front may have looked at another one than we would.
            challenge = b'Bearer error="invalid_request", error_description="Authorization comes more than once"'
            headers = [] if self.authenticate is None else [(b"www-authenticate", challenge)]
            raise HttpRefusal(400, "Authorization comes more than once", headers, reason="authorization")
        if self.authenticate is None:
            return ANONYMOUS
        return await identify(self.authenticate, exchange)

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
        # The same site: a page this host served itself.
        host = exchange.headers.get(b"host", b"").decode("latin-1").lower()
        name = _authority(origin)
        return bool(name) and name == host and self.allowed_hosts is not None and self._host_allowed(name)


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""  # such as "http://[": no browser says so, and nobody is allowed by it


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
