"""An HTTP client that calls an ASGI app in memory, without a socket: for tests that look at status, headers and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trio_mcp.transports.asgi import ASGIApp, Message

__all__ = ["AsgiClient", "AsgiExchange", "Disconnected", "asgi_client"]

_BUFFER = 10_000
"""Chunks an app may be ahead of the test; a test that wants back-pressure gives `buffer=0`."""


class Disconnected(OSError):
    """Raised by ASGI `send` in the app after the test has called `disconnect`."""


class AsgiExchange:
    """One request and its response, made by `AsgiClient.start`: read the response as it comes, or disconnect."""

    def __init__(self, body: bytes, buffer: int) -> None:
        """`buffer`: how many chunks of the response the app may be ahead of the test."""
        self.status: int | None = None
        """None until the response begins."""
        self.headers: dict[str, str] = {}
        """The response's headers, by lower-case name; of a repeated one the last."""
        self._body = body
        self._asked = False
        self._gone = False
        self._over = trio.Event()
        self._started = trio.Event()
        self.finished: trio.Event = trio.Event()
        """Set when the app has returned."""
        self._send, self._chunks = trio.open_memory_channel[bytes](buffer)
        self._pending = b""

    async def receive(self) -> Message:
        """ASGI `receive`: the request's body, then `http.disconnect`."""
        if not self._asked:
            self._asked = True
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": self._body, "more_body": False}
        # Servers send it also when the response is complete.
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI `send`; raises Disconnected after `disconnect`."""
        if self._gone:
            raise Disconnected("the client is gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            self._started.set()
            return await trio.lowlevel.checkpoint()
        if message.get("body"):
            await self._send.send(message["body"])
        if not message.get("more_body"):
            self._send.close()
            self._over.set()
        await trio.lowlevel.checkpoint()

    def disconnect(self) -> None:
        """Close the connection, as a client that goes away."""
        self._gone = True
        self._over.set()

    async def head(self) -> int:
        """Wait for the head of the response; its status. Fails when the app ends without one."""
        await self._started.wait()
        assert self.status is not None, "the app ended without a response"
        return self.status

    async def chunk(self) -> bytes | None:
        """Wait for the next piece of the body; None at its end."""
        try:
            return await self._chunks.receive()
        except trio.EndOfChannel:
            return None

    async def body(self) -> bytes:
        """Wait for the rest of the body."""
        parts = [self._pending]
        while (part := await self.chunk()) is not None:
            parts.append(part)
        return b"".join(parts)

    async def json(self) -> Any:
        """Wait for the whole body and decode it as JSON; raises msgspec.DecodeError."""
        return msgspec.json.decode(await self.body())

    async def event(self) -> dict[str, str] | None:
        """The next server-sent event as its fields, comments skipped; None at the stream's end."""
        while (block := await self._block()) is not None:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                return fields
        return None

    async def _block(self) -> str | None:
        """The lines up to the next empty one."""
        while b"\n\n" not in self._pending:
            part = await self.chunk()
            if part is None:
                return None
            self._pending += part
        block, self._pending = self._pending.split(b"\n\n", 1)
        return block.decode()

    async def message(self) -> Any:
        """The next JSON-RPC message of the stream, priming events skipped; None at its end."""
        while (fields := await self.event()) is not None:
            if fields.get("data"):
                return msgspec.json.decode(fields["data"])
        return None

    async def messages(self) -> list[Any]:
        """All messages up to the stream's end."""
        found = []
        while (message := await self.message()) is not None:
            found.append(message)
        return found


class AsgiClient:
    """Sends requests to an ASGI app; the app runs in a task of `nursery` for each."""

    def __init__(self, app: ASGIApp, nursery: trio.Nursery) -> None:
        self._app = app
        self._nursery = nursery

    def start(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        buffer: int = _BUFFER,
    ) -> AsgiExchange:
        """Send a request; does not wait for the response.

        `path` may have a query. `headers` are names and values, in order. `buffer` is how many chunks of the response the app may be
        ahead of the test: 0 for back-pressure. An exception of the app is raised in the nursery.
        """
        exchange = AsgiExchange(body, buffer)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        self._nursery.start_soon(self._run, scope, exchange)
        return exchange

    async def _run(self, scope: dict[str, Any], exchange: AsgiExchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            exchange.finished.set()
            exchange._started.set()
            exchange._send.close()


@asynccontextmanager
async def asgi_client(app: ASGIApp) -> AsyncIterator[AsgiClient]:
    """A client of `app` for the length of the block; exchanges that are open at its end are cancelled.

    It does not run the app's lifespan: enter `app.running()` around it.
    """
    async with trio.open_nursery() as nursery:
        yield AsgiClient(app, nursery)
        nursery.cancel_scope.cancel("the test is over")
