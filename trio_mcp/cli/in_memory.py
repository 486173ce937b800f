"""HTTP exchanges with an ASGI app in memory: how commands use a server that is a file, not a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_mcp.http_client import AnswerCut, Exchange, Head, Headers, HttpClientError

__all__ = ["AppTransport", "running"]

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

SHUTDOWN_SECONDS = 2.0
"""For the user's lifespan to clean up, before the command ends without it."""


@asynccontextmanager
async def running(app: App, path: str, headers: Headers = ()) -> AsyncIterator[AppTransport]:
    """Run an app's lifespan for the length of the block, and send it requests for `path`, with `headers` in each.

    Raises HttpClientError when the app does not start. What the block raises comes in a group, as from any nursery.
    """
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        stopped = await nursery.start(_lifespan, app, stop)
        try:
            yield AppTransport(app, path, nursery, headers)
        finally:
            # Also for a command that fails, or that Ctrl+C ends: what the lifespan opened is closed as at any stop.
            stop.set()
            with trio.move_on_after(SHUTDOWN_SECONDS, shield=True):
                await stopped.wait()
            nursery.cancel_scope.cancel("the app has shut down")


async def _lifespan(app: App, stop: trio.Event, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    stopped = trio.Event()
    requests = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        kind = next(requests)
        if kind == "lifespan.shutdown":
            await stop.wait()
        return {"type": kind}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            task_status.started(stopped)
        elif message["type"].endswith(".failed"):
            raise HttpClientError(f"the server did not start: {message.get('message', '')}")

    try:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    finally:
        stopped.set()


class AppTransport:
    """Exchanges with an ASGI app, each in a task of `nursery`."""

    def __init__(self, app: App, path: str, nursery: trio.Nursery, headers: Headers) -> None:
        self._app = app
        self._path = path
        self._nursery = nursery
        self._headers = headers

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        send, receive = trio.open_memory_channel[Message](0)
        scope = trio.CancelScope()
        with receive:
            self._nursery.start_soon(self._serve, self._scope(method, headers, body), body, send, scope)
            try:
                yield _AsgiExchange(receive)
            finally:
                scope.cancel("the client has what it wanted, or failed")

    def _scope(self, method: str, headers: Headers, body: bytes) -> MutableMapping[str, Any]:
        fixed = [("host", "localhost"), ("content-length", str(len(body)))]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (name.lower().encode(), value.encode("latin-1")) for name, value in [*fixed, *self._headers, *headers]
            ],
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }

    async def _serve(
        self,
        scope: MutableMapping[str, Any],
        body: bytes,
        answer: trio.MemorySendChannel[Message],
        cancel: trio.CancelScope,
    ) -> None:
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                # The client disconnects by cancelling this task.
                await trio.sleep_forever()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        with cancel, answer:
            await self._app(scope, receive, answer.send)


class _AsgiExchange:
    def __init__(self, answer: trio.MemoryReceiveChannel[Message]) -> None:
        self._answer = answer
        self._more = True

    async def head(self) -> Head:
        message = await self._next()
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in message.get("headers", [])}
        return Head(message["status"], headers)

    async def receive(self) -> bytes:
        while self._more:
            message = await self._next()
            self._more = message.get("more_body", False)
            # An empty chunk in the middle of a body is not its end.
            if message.get("body"):
                return bytes(message["body"])
        return b""

    async def _next(self) -> Message:
        try:
            return await self._answer.receive()
        except trio.EndOfChannel as error:
            raise AnswerCut("the server ended its answer early") from error
