"""The requests of a check: which clients there are, what each asks, and what it got."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import trio

from trio_mcp.cli.check.cookies import Cookie, Jar
from trio_mcp.cli.check.evidence import CLIENT_KINDS, STREAM, STREAM_PATIENCE, Asked, ClientKind, Evidence, Probe, count
from trio_mcp.cli.json_rpc import Answer, Channel
from trio_mcp.cli.refusals import HttpRefused, Refused
from trio_mcp.cli.request_forms import CLIENT_INFO, Legacy
from trio_mcp.http_client import Exchange, Head, Headers, HttpClientError, HttpTransport, fetch
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.versions import LATEST_LEGACY

__all__ = ["survey"]

PROBES = ("/livez", "/readyz")

ENOUGH_BUFFERED = 2
"""Streams without a byte in time: each costs seconds, so after these no more are opened."""

_NO_ANSWER = Head(0, {})
"""Stands for the head of an answer that did not come."""


async def survey(
    url: str, transport_to: Callable[[str], HttpTransport], *, connections: int, silence: float
) -> Evidence:
    """Run `connections` clients of each kind against `url`, one after the other, then probe `/livez` and `/readyz`.

    `transport_to` makes the transport for a URL; `silence` is in seconds without a byte. Raises HttpClientError when the very
    first request is not answered, AuthorizationRequired when the server wants a token.
    """
    evidence = Evidence(url)
    for kind in CLIENT_KINDS:
        for _ in range(connections):
            await _run_client(evidence, kind, transport_to(url), silence)
    for path in PROBES:
        for _ in range(connections):
            evidence.probes.append(await _probe(path, transport_to(_at(url, path)), silence))
    return evidence


async def _run_client(evidence: Evidence, kind: ClientKind, transport: HttpTransport, silence: float) -> None:
    jar = Jar(evidence.path, secure=evidence.is_secure) if kind == "with cookies" else None
    client = RecordingClient(kind, transport, jar, silence)
    if kind == "2026-07-28":
        await client.ask_without_session()
    else:
        await client.use_session(stream=count(evidence.asked, lambda each: each.buffered) < ENOUGH_BUFFERED)
    if client.unreachable is not None and not evidence.asked:
        raise client.unreachable
    evidence.asked += client.asked
    known = {(cookie.name, cookie.attributes) for cookie in evidence.cookies}
    evidence.cookies += [each for each in client.cookies if (each.name, each.attributes) not in known][:1]


async def _probe(path: str, transport: HttpTransport, silence: float) -> Probe:
    try:
        head, body = await fetch(transport, "GET", seconds=silence)
    except (HttpClientError, trio.TooSlowError):
        return Probe(path, 0, "", sets_cookie=False)
    return Probe(path, head.status, _boot(body), sets_cookie=bool(head.cookies))


def _boot(body: bytes) -> str:
    """The process id in a probe's body; "" when it is not a node's."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(said.get("boot", "")) if isinstance(said, dict) else ""


def _at(url: str, path: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class RecordingClient:
    """A client with a fresh connection for each request, as a balancer sees most of them, with a cookie jar or without.

    Its requests and their answers are recorded in `asked`, the cookies that came in `cookies`; `unreachable` is the error
    when its first request had no answer.
    """

    def __init__(self, kind: ClientKind, transport: HttpTransport, jar: Jar | None, silence: float) -> None:
        self.asked: list[Asked] = []
        self.unreachable: HttpClientError | None = None
        self._kind = kind
        self._transport = _RecordingTransport(transport, jar)
        self._channel = Channel(self._transport, lambda method, params: None, silence)
        self._session: Legacy | None = None

    @property
    def cookies(self) -> list[Cookie]:
        """Every cookie that came."""
        return self._transport.cookies

    async def use_session(self, *, stream: bool) -> None:
        """Open a session, send it a notification, requests and, with `stream`, a GET; then end it."""
        self._channel.form = self._session = Legacy(LATEST_LEGACY, None)
        hello = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": CLIENT_INFO}
        await self._request("initialize", hello)
        if self._session.session_id is None:
            return
        await self._recorded("notifications/initialized", self._say_initialized)
        await self._request("ping", {})
        await self._request("tools/list", {})
        if stream:
            await self._open_stream()
        await self._recorded("DELETE", self._end)

    async def ask_without_session(self) -> None:
        """The first requests of a client of 2026-07-28."""
        await self._request("server/discover", {})
        await self._request("tools/list", {})

    async def _request(self, method: str, params: dict[str, Any]) -> None:
        await self._recorded(method, partial(self._channel.request, method, params))

    async def _say_initialized(self) -> None:
        await self._channel.tell({"method": "notifications/initialized"})

    async def _end(self) -> None:
        async with self._bare("DELETE"):
            pass

    async def _open_stream(self) -> None:
        """Open a GET stream and wait for its first bytes only."""
        started, came = trio.current_time(), list[float]()

        async def first_bytes() -> None:
            # Clients accept compression, so a proxy that compresses event streams, and buffers them, is found out.
            async with self._bare(STREAM, ("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")) as answer:
                if not await answer.exchange.receive():
                    raise HttpClientError("the stream ended at once")
                came.append(trio.current_time() - started)

        with trio.move_on_after(STREAM_PATIENCE) as patience:
            await self._recorded(STREAM, first_bytes, came)
        if patience.cancelled_caught:
            self._record(STREAM, None, None)

    @asynccontextmanager
    async def _bare(self, method: str, *headers: tuple[str, str]) -> AsyncIterator[Answer]:
        """A request without a body; raises as `Channel.request` does for a status of 400 or more."""
        async with self._channel.exchange(method, [*headers, *self._channel.form.headers("", {}, {})]) as answer:
            if answer.head.status >= 400:
                raise await self._channel.refusal(answer)
            yield answer

    async def _recorded(self, what: str, ask: Callable[[], Awaitable[object]], seconds: Sequence[float] = ()) -> None:
        """Send a request by `ask` and record the answer; `ask` may put the seconds of a stream's first bytes into `seconds`."""
        try:
            await ask()
        except (Refused, HttpRefused, HttpClientError) as refusal:
            self._record(what, refusal, None)
        else:
            self._record(what, None, seconds[0] if seconds else None)

    def _record(self, what: str, refusal: McpError | None, seconds: float | None) -> None:
        data = getattr(refusal, "data", None)
        head = self._transport.head
        if isinstance(refusal, HttpClientError):
            head = _NO_ANSWER
            self.unreachable = self.unreachable if self.asked else refusal
        session_id = "" if self._session is None else self._session.session_id or ""
        asked = Asked(
            kind=self._kind,
            what=what,
            status=head.status,
            node=session_id.rpartition(".")[0],
            sent_cookie=self._transport.sent_cookie,
            relay=head.headers.get("trio-mcp-relay", ""),
            seconds=seconds,
            code=getattr(refusal, "code", None),
            reason=str(data.get("reason", "")) if isinstance(data, dict) else "",
            said="" if refusal is None else str(refusal),
        )
        self.asked.append(asked)


class _RecordingTransport:
    """Sends the cookies of a jar, and keeps the head of the last answer."""

    def __init__(self, transport: HttpTransport, jar: Jar | None) -> None:
        self.head = _NO_ANSWER
        self.sent_cookie = False
        self.cookies: list[Cookie] = []
        self._transport = transport
        self._jar = jar

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        cookie = "" if self._jar is None else self._jar.header
        self.head, self.sent_cookie = _NO_ANSWER, bool(cookie)
        async with self._transport.exchange(
            method, [*headers, *([("Cookie", cookie)] if cookie else [])], body
        ) as exchange:
            yield _RecordingExchange(exchange, self)

    def record(self, head: Head) -> None:
        """Keep the head of an answer, and its cookies."""
        self.head = head
        for cookie in map(Cookie.parse, head.cookies):
            self.cookies.append(cookie)
            if self._jar is not None:
                self._jar.keep(cookie)


class _RecordingExchange:
    def __init__(self, exchange: Exchange, transport: _RecordingTransport) -> None:
        self._exchange = exchange
        self._transport = transport

    async def head(self) -> Head:
        head = await self._exchange.head()
        self._transport.record(head)
        return head

    async def receive(self) -> bytes:
        return await self._exchange.receive()
