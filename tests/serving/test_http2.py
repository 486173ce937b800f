"""HTTP/2, which Hypercorn speaks: a client that sends what it should not harms its own connection alone."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from tests.serving.test_tls import files
from tests.serving.test_websocket_fronts import served
from tests.transports.listener.frames import close, frames, text

__all__ = ["files"]

pytestmark = pytest.mark.sockets

POST = {":method": "POST", ":scheme": "https", ":path": "/nowhere", ":authority": "localhost"}
GET = {**POST, ":method": "GET", ":path": "/livez"}
WEBSOCKET = {
    **POST,
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/mcp",
    "sec-websocket-version": "13",
    "sec-websocket-protocol": "mcp",
    "authorization": "Bearer good",
}
TRIPS = {
    "CONNECT to a host": {":method": "CONNECT", ":authority": "localhost"},
    "a path that is no ASCII": {**GET, ":path": "/\xff"},
}
"""Heads that Hypercorn 0.18 raises something over."""


class Http2:
    """A connection, and what came of each of its streams."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        config = h2.config.H2Configuration(validate_outbound_headers=False)
        self.parser = h2.connection.H2Connection(config)
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    async def flush(self) -> None:
        await self._stream.send_all(self.parser.data_to_send())

    async def ask(self, head: dict[str, str], *, end: bool = True) -> int:
        """Send the head of a request; the number of its stream."""
        number: int = self.parser.get_next_available_stream_id()
        self.parser.send_headers(number, list(head.items()), end_stream=end)
        await self.flush()
        return number

    async def say(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.parser.send_data(number, data, end_stream=end)
        await self.flush()

    async def status(self, number: int) -> int:
        while number not in self.statuses:
            await self._more()
        return self.statuses[number]

    async def end(self, number: int) -> bytes:
        """The body of a response that has ended."""
        while number not in self.ended | self.reset:
            await self._more()
        return self.bodies.get(number, b"")

    async def gone(self) -> None:
        """Wait until the server closes the connection."""
        while data := await self._stream.receive_some():
            self.parser.receive_data(bytes(data))

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        assert data, "the server closed the connection"
        for event in self.parser.receive_data(bytes(data)):
            match event:
                case h2.events.ResponseReceived():
                    self.statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)
                case h2.events.StreamReset():
                    self.reset.add(event.stream_id)
        await self.flush()


@asynccontextmanager
async def connected(url: str, certificate: Path) -> AsyncIterator[Http2]:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2"])
    port = int(url.rpartition(":")[2].partition("/")[0])
    stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=context, https_compatible=True)
    async with stream:
        client = Http2(stream)
        client.parser.initiate_connection()
        await client.flush()
        yield client


async def still_serves(client: Http2) -> None:
    number = await client.ask(GET)
    assert await client.status(number) == 200
    assert b"status" in await client.end(number)


async def a_body_that_goes_on_after_the_answer(url: str, certificate: Path) -> None:
    async with connected(url, certificate) as client:
        number = await client.ask(POST, end=False)
        assert await client.status(number) == 404
        await client.end(number)
        await client.say(number, b"x" * 1000)
        await still_serves(client)
        assert number in client.reset


async def heads_that_it_trips_over(url: str, certificate: Path, caplog: pytest.LogCaptureFixture) -> None:
    for head in TRIPS.values():
        async with connected(url, certificate) as client:
            await client.ask(head)
            await client.gone()
        async with connected(url, certificate) as client:
            await still_serves(client)
    assert caplog.messages.count("connection failed") == 1, "of a burst"


async def websockets_that_end(url: str, certificate: Path) -> None:
    """By a close frame, and by the end of the stream; each beside others on the same connection."""
    async with connected(url, certificate) as client:
        by_frame, by_end = [await client.ask(WEBSOCKET, end=False) for _ in range(2)]
        for number in (by_frame, by_end):
            assert await client.status(number) == 200
        await client.say(by_frame, close(1000))
        assert [heard.code for heard in frames(await client.end(by_frame))][-1] == 1000
        await client.say(by_end, text("{"), end=True)
        await client.end(by_end)
        await still_serves(client)


async def test_a_client_harms_its_own_connection_alone(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    async with served("hypercorn", *files) as url:
        await a_body_that_goes_on_after_the_answer(url, files[0])
        await heads_that_it_trips_over(url, files[0], caplog)
        await websockets_that_end(url, files[0])
