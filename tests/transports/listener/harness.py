"""A server on memory streams, raw clients for it, and h11 as the judge of every byte it sends."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import h11
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_mcp.streams.account import Account
from trio_mcp.transports.carrier import DirectApp
from trio_mcp.transports.listener import ASGIApp, Limits, Receive, Scope, Send, serve

PATIENCE = 1000.0
"""Virtual seconds within which everything must have ended; longer than every limit."""


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what `connect` makes."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](math.inf)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()

    def offer(self, stream: trio.abc.Stream) -> None:
        self._send.send_nowait(stream)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as h11 read it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class RawClient:
    """The other end of one connection; says and hears bytes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def say_slowly(self, data: bytes) -> None:
        """Every byte is read and dealt with before the next is sent; stops when nobody listens any more."""
        with suppress(trio.BrokenResourceError):
            for at in range(len(data)):
                await self.stream.send_all(data[at : at + 1])
                await wait_all_tasks_blocked()

    async def hear(self) -> bytes:
        """What has come once everybody waits for something."""
        await wait_all_tasks_blocked()
        return bytes(await self.stream.receive_some())

    async def hear_all(self) -> bytes:
        """Everything until the server closes."""
        heard = bytearray()
        with trio.fail_after(PATIENCE):
            with suppress(trio.BrokenResourceError):
                while data := await self.stream.receive_some():
                    heard += data
            await trio.lowlevel.checkpoint()
        return bytes(heard)

    async def hang_up(self) -> None:
        await self.stream.aclose()


class Server:
    """A running listener."""

    def __init__(self, listener: MemoryListener, stopping: trio.Event) -> None:
        self._listener = listener
        self.stopping = stopping
        self.stopped = trio.Event()

    def accept(self, stream: trio.abc.Stream) -> None:
        """As if a peer had connected whose other end is `stream`."""
        self._listener.offer(stream)

    def connect(self) -> RawClient:
        ours, theirs = memory_stream_pair()
        self._listener.offer(theirs)
        return RawClient(ours)


@asynccontextmanager
async def serving(
    app: ASGIApp,
    limits: Limits | None = None,
    account: Account | None = None,
    *,
    direct: DirectApp | None = None,
) -> AsyncIterator[Server]:
    """Serve `app` on memory streams, without ASGI where `direct` takes that; leaving cancels what still runs."""
    server = Server(MemoryListener(), trio.Event())

    async def run(*, task_status: trio.TaskStatus[object]) -> None:
        await serve(
            app,
            [server._listener],
            limits=limits or Limits(),
            account=account,
            stopping=server.stopping,
            direct=direct,
            task_status=task_status,
        )
        server.stopped.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield server
        nursery.cancel_scope.cancel("the test is over")


def answers(heard: bytes, methods: Sequence[str] = (), *, closed: bool = True) -> list[Answer]:
    """Every response in `heard`, read by h11 in the client role; raises when a byte is wrong or missing.

    `methods` are those of the requests, GET where there are fewer.
    """
    found: list[Answer] = []
    while heard:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(heard)
        answer = _answer(connection, closed)
        heard = connection.trailing_data[0]
        if answer is not None:
            found.append(answer)
    return found


def _answer(connection: h11.Connection, closed: bool) -> Answer:
    head: h11.Response | None = None
    body = b""
    while True:
        event = connection.next_event()
        match event:
            case h11.Response():
                head = event
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                assert head is not None
                return Answer(head.status_code, dict(head.headers), body)
            case h11.InformationalResponse():
                pass
            case _:
                assert closed, f"an incomplete response: {event!r}"
                assert event is h11.NEED_DATA
                connection.receive_data(b"")


def statuses(heard: bytes, methods: Sequence[str] = ()) -> list[int]:
    return [answer.status for answer in answers(heard, methods)]


async def read_body(receive: Receive) -> bytes | None:
    """The request's body; None when the client went before its end."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def reply(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the method, the target and the body it got."""
    body = await read_body(receive)
    if body is not None:
        await reply(send, scope["method"].encode() + b" " + scope["raw_path"] + b" " + body)


def get(target: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *headers, "", ""]).encode("latin-1")


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


Register = Callable[[Callable[[], None]], None]


def register_of(scope: Scope) -> Register:
    register: Register = scope["extensions"]["trio_mcp.disconnect"]["register"]
    return register
