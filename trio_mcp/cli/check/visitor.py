"""A client as a balancer meets it: a fresh connection for each request, with a cookie jar or without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from trio_mcp.cli.check.cookies import Cookie, Jar
from trio_mcp.cli.check.evidence import STREAM, STREAM_PATIENCE, Asked, Crowd
from trio_mcp.cli.dialect import CLIENT_INFO, Legacy
from trio_mcp.cli.rpc import Answer, Channel, HttpRefused, Refused
from trio_mcp.cli.wire import Exchange, Head, Headers, Wire, WireError
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.versions import LATEST_LEGACY

__all__ = ["Visitor"]

_NO_ANSWER = Head(0, {})


class Visitor:
    """What it asks and what comes back is in `asked` and `cookies`; `turned_away` is why nobody answered its first question."""

    def __init__(self, crowd: Crowd, wire: Wire, jar: Jar | None, silence: float) -> None:
        self.asked: list[Asked] = []
        self.turned_away: WireError | None = None
        self._crowd = crowd
        self._wire = _NotingWire(wire, jar)
        self._channel = Channel(self._wire, lambda method, params: None, silence)
        self._session: Legacy | None = None

    @property
    def cookies(self) -> list[Cookie]:
        """Every one that came."""
        return self._wire.cookies

    async def hold_session(self, *, stream: bool) -> None:
        """Open a session, use it in every way there is, and end it; without a `stream` where that would only cost time."""
        self._channel.dialect = self._session = Legacy(LATEST_LEGACY, None)
        hello = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": CLIENT_INFO}
        await self._request("initialize", hello)
        if self._session.session_id is None:
            return
        await self._noted("notifications/initialized", self._say_initialized)
        await self._request("ping", {})
        await self._request("tools/list", {})
        if stream:
            await self._open_stream()
        await self._noted("DELETE", self._end)

    async def ask_without_session(self) -> None:
        """What a client of 2026-07-28 asks first."""
        await self._request("server/discover", {})
        await self._request("tools/list", {})

    async def _request(self, method: str, params: dict[str, Any]) -> None:
        await self._noted(method, partial(self._channel.request, method, params))

    async def _say_initialized(self) -> None:
        await self._channel.tell({"method": "notifications/initialized"})

    async def _end(self) -> None:
        async with self._bare("DELETE"):
            pass

    async def _open_stream(self) -> None:
        """Its first bytes: what comes later is no business of ours."""
        started, came = trio.current_time(), list[float]()

        async def first_bytes() -> None:
            # Clients offer to decompress: a proxy that compresses streams must not hold them back.
            async with self._bare(STREAM, ("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")) as answer:
                if not await answer.exchange.receive():
                    raise WireError("the stream ended at once")
                came.append(trio.current_time() - started)

        with trio.move_on_after(STREAM_PATIENCE) as patience:
            await self._noted(STREAM, first_bytes, came)
        if patience.cancelled_caught:
            self._note(STREAM, None, None)

    @asynccontextmanager
    async def _bare(self, method: str, *headers: tuple[str, str]) -> AsyncIterator[Answer]:
        """A request without a body, not refused."""
        async with self._channel.exchange(method, [*headers, *self._channel.dialect.headers("", {}, {})]) as answer:
            if answer.head.status >= 400:
                raise await self._channel.refusal(answer)
            yield answer

    async def _noted(self, what: str, ask: Callable[[], Awaitable[object]], seconds: Sequence[float] = ()) -> None:
        """Ask, and note what came; `seconds` is filled meanwhile."""
        try:
            await ask()
        except (Refused, HttpRefused, WireError) as refusal:
            self._note(what, refusal, None)
        else:
            self._note(what, None, seconds[0] if seconds else None)

    def _note(self, what: str, refusal: McpError | None, seconds: float | None) -> None:
        data = getattr(refusal, "data", None)
        head = self._wire.head
        if isinstance(refusal, WireError):
            head = _NO_ANSWER
            self.turned_away = self.turned_away if self.asked else refusal
        session_id = "" if self._session is None else self._session.session_id or ""
        noted = Asked(
            crowd=self._crowd,
            what=what,
            status=head.status,
            node=session_id.rpartition(".")[0],
            sent_cookie=self._wire.sent_cookie,
            relay=head.headers.get("trio-mcp-relay", ""),
            seconds=seconds,
            code=getattr(refusal, "code", None),
            reason=str(data.get("reason", "")) if isinstance(data, dict) else "",
            said="" if refusal is None else str(refusal),
        )
        self.asked.append(noted)


class _NotingWire:
    """Sends the cookies of a jar, and remembers the head of the last answer."""

    def __init__(self, wire: Wire, jar: Jar | None) -> None:
        self.head = _NO_ANSWER
        self.sent_cookie = False
        self.cookies: list[Cookie] = []
        self._wire = wire
        self._jar = jar

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        cookie = "" if self._jar is None else self._jar.header
        self.head, self.sent_cookie = _NO_ANSWER, bool(cookie)
        async with self._wire.exchange(method, [*headers, *([("Cookie", cookie)] if cookie else [])], body) as exchange:
            yield _NotingExchange(exchange, self)

    def note(self, head: Head) -> None:
        """The answer has begun."""
        self.head = head
        for cookie in map(Cookie.parse, head.cookies):
            self.cookies.append(cookie)
            if self._jar is not None:
                self._jar.keep(cookie)


class _NotingExchange:
    def __init__(self, exchange: Exchange, wire: _NotingWire) -> None:
        self._exchange = exchange
        self._wire = wire

    async def head(self) -> Head:
        head = await self._exchange.head()
        self._wire.note(head)
        return head

    async def receive(self) -> bytes:
        return await self._exchange.receive()
