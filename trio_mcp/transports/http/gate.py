"""What is checked before a body is read: host, origin, who sends it, and the headers that say what it is.

`admit` does it in the order of docs/design.md. What fails is an HttpRefusal.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from trio_mcp.transports.http.allowed import Hosts, Origins
from trio_mcp.transports.http.callers import Identify, refuse_repeated
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal
from trio_mcp.transports.request_head import HeaderList, Passed, RequestHead

__all__ = ["LOOPBACK_NAMES", "Gate", "Rules"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CACHE_LIMIT = 256


class Rules:
    """Which hosts are served, and which pages. Replaced as a whole: what was decided by other rules is no longer true.

    `hosts`: None serves every Host. `origins`: None allows only pages of an allowed host.
    """

    def __init__(self, hosts: Hosts | None, origins: Origins | None) -> None:
        self._hosts = hosts
        self._origins = origins
        self._known_hosts: dict[bytes, bool] = {}

    def serve_host(self, host: bytes) -> bool:
        """Whether requests with this value of `Host` are served."""
        known = self._known_hosts.get(host)
        if known is None:
            if len(self._known_hosts) >= _CACHE_LIMIT:
                self._known_hosts.clear()
            known = self._known_hosts[host] = self._host_allowed(host.decode("latin-1").lower())
        return known

    def serve_page(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this `Origin` may read what requests with this `Host` are answered."""
        page = origin.decode("latin-1").lower()
        if self._origins is not None and page in self._origins:
            return True
        # A page that this very host has served.
        name = _authority(page)
        same = bool(name) and name == host.decode("latin-1").lower()
        return same and self._hosts is not None and self._host_allowed(name)

    def _host_allowed(self, host: str) -> bool:
        return self._hosts is None or host in self._hosts


class Gate:
    """The checks of one server. `identify`: None takes every request for ANONYMOUS."""

    def __init__(self, rules: Rules, identify: Identify | None = None) -> None:
        self.rules = rules
        """May be replaced while the server runs."""
        self._identify = identify

    async def admit(self, exchange: HttpExchange) -> None:
        """Check everything but the body, and set `principal`, `token`, `cors`, `takes_json` and `takes_sse` of the exchange.

        Of a preflight (OPTIONS) only host and origin are checked, because browsers send it without credentials. Raises
        HttpRefusal.
        """
        head = exchange.head
        passed = head.passed
        if passed is None or passed.rules is not self.rules:
            return await self._admit_unknown(exchange, head)
        exchange.cors, exchange.takes_json, exchange.takes_sse = passed.cors, passed.takes_json, passed.takes_sse
        # Asked every time, because a session id proves nothing.
        if self._identify is not None:
            await self._identify(exchange)

    async def _admit_unknown(self, exchange: HttpExchange, head: RequestHead) -> None:
        """The same for a head that was not let in before; if it is now, that is kept with the head."""
        rules = self.rules
        self.check_host(head)
        exchange.cors = _check_origin(head, rules)
        if head.method == "OPTIONS":
            return
        if self._identify is not None:
            await self._identify(exchange)
        elif head.repeated:
            refuse_repeated(exchange, [])
        if b"mcp-session-id" in head.repeated:
            raise HttpRefusal(400, "Mcp-Session-Id comes more than once")
        exchange.takes_json, exchange.takes_sse = _read_accept(exchange)
        if head.method == "POST":
            _check_media(exchange)
        head.passed = Passed(rules, exchange.cors, exchange.takes_json, exchange.takes_sse)

    def check_host(self, head: RequestHead) -> None:
        """421 for a Host that is not allowed: a page that rebinds DNS must not reach a local server (2025-11-25 basic/transports)."""
        host = head.headers.get(b"host", b"")
        if not self.rules.serve_host(host):
            raise HttpRefusal(
                421,
                "Host is not allowed here; the server's --allowed-hosts lists those that are",
                host=host.decode("latin-1")[:128],
                flag="--allowed-hosts",
            )


def _check_origin(head: RequestHead, rules: Rules) -> HeaderList:
    """CORS headers for an allowed Origin, none without one; 403 for any other (2025-11-25 basic/transports, security)."""
    origin = head.headers.get(b"origin")
    if origin is None:
        return []
    if not rules.serve_page(origin, head.headers.get(b"host", b"")):
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


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""  # such as "http://[", which no browser sends


_accept_cache: dict[bytes, tuple[bool, bool]] = {}


def _read_accept(exchange: HttpExchange) -> tuple[bool, bool]:
    """Whether `Accept` allows JSON, and whether it allows event streams; everything where it is left out (RFC 9110 §12.5.1)."""
    raw = exchange.head.headers.get(b"accept", b"*/*")
    if b"accept" in exchange.head.repeated:
        raw = ", ".join(exchange.header_list(b"accept")).encode("latin-1")
    known = _accept_cache.get(raw)
    if known is None:
        if len(_accept_cache) >= _CACHE_LIMIT:
            _accept_cache.clear()
        known = _accept_cache[raw] = _parse_accept(raw.decode("latin-1"))
    return known


def _check_media(exchange: HttpExchange) -> None:
    """Check the media types of a POST: 415 unless the body is said to be JSON, 406 for a client that takes neither JSON nor event streams."""
    if not _is_json(exchange.head.headers.get(b"content-type", b"")):
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
