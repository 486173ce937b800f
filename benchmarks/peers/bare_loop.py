"""The least on Trio that answers the calls of the load: httptools for the head, msgspec for the JSON, and of MCP the answers alone.

A session is a task with a nursery that outlives the request which opens it, and its calls are tasks in there; a call without a session
is answered where it was read. Nothing is checked, bounded, logged or timed, and no session ends: it is something to compare with, not to serve with.

    python benchmarks/peers/bare_loop.py PORT
"""

from __future__ import annotations

import sys
import uuid
from functools import partial
from typing import Any

import httptools
import msgspec
import trio

CHUNK = 65536
RESPONSE = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
INITIALIZED: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "bare loop", "version": "1"},
}

Result = dict[str, Any]
Sessions = dict[bytes, trio.Nursery]


class Arguments(msgspec.Struct):
    """Of `add`, the one tool."""

    a: int
    b: int


class Params(msgspec.Struct):
    arguments: Arguments | None = None


class Message(msgspec.Struct):
    method: str
    params: Params | None = None
    id: int | None = None


DECODE = msgspec.json.Decoder(Message).decode
ENCODE = msgspec.json.Encoder().encode


class Request:
    """What httptools reads: the request that came last on a connection."""

    headers: dict[bytes, bytes]
    body: bytes
    whole = False

    def on_message_begin(self) -> None:
        self.headers, self.body, self.whole = {}, b"", False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


async def serve(port: int) -> None:
    """Serve on loopback until the process is killed."""
    sessions: Sessions = {}
    async with trio.open_nursery() as nursery:
        await trio.serve_tcp(partial(_converse, nursery, sessions), port, host="127.0.0.1")


async def _converse(nursery: trio.Nursery, sessions: Sessions, stream: trio.SocketStream) -> None:
    request = Request()
    parser = httptools.HttpRequestParser(request)
    try:
        while data := await stream.receive_some(CHUNK):
            parser.feed_data(data)
            if request.whole:
                request.whole = False
                await stream.send_all(await _respond(nursery, sessions, request))
    except trio.BrokenResourceError:
        pass  # the client closed first


async def _respond(nursery: trio.Nursery, sessions: Sessions, request: Request) -> bytes:
    if not request.body:  # whoever asks whether the server has started
        return _response(404, b"Not Found", b"")
    message = DECODE(request.body)
    if message.id is None:
        return _response(202, b"Accepted", b"")
    if message.method == "initialize":
        session = await nursery.start(_keep_session, sessions)
        return _response(200, b"OK", _reply(message, INITIALIZED), b"Mcp-Session-Id: %s\r\n" % session)
    found = request.headers.get(b"mcp-session-id")
    if found is None:
        return _response(200, b"OK", _reply(message, {"resultType": "complete", **await add(message)}))
    return _response(200, b"OK", _reply(message, await _add_in_session(sessions[found], message)))


async def _keep_session(sessions: Sessions, task_status: trio.TaskStatus[bytes] = trio.TASK_STATUS_IGNORED) -> None:
    async with trio.open_nursery() as nursery:
        session = uuid.uuid4().hex.encode()
        sessions[session] = nursery
        task_status.started(session)
        await trio.sleep_forever()


async def _add_in_session(nursery: trio.Nursery, message: Message) -> Result:
    answers, ended = list[Result](), trio.Event()

    async def run() -> None:
        answers.append(await add(message))
        ended.set()

    nursery.start_soon(run)
    await ended.wait()
    return answers[0]


async def add(message: Message) -> Result:
    """The tool."""
    assert message.params is not None
    assert message.params.arguments is not None
    total = message.params.arguments.a + message.params.arguments.b
    content = [{"type": "text", "text": str(total)}]
    return {"content": content, "structuredContent": {"result": total}, "isError": False}


def _reply(message: Message, result: Result) -> bytes:
    return ENCODE({"jsonrpc": "2.0", "id": message.id, "result": result})


def _response(status: int, reason: bytes, body: bytes, more: bytes = b"") -> bytes:
    return RESPONSE % (status, reason, more, len(body), body)


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]))
