"""WebSockets on every front of a served node: our listener, Hypercorn, TLS, HTTP/2."""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio
from hypercorn.protocol.ws_stream import FrameTooLargeError
from trio_websocket import ConnectionRejected
from wsproto.events import TextMessage

from tests.rig.waiting import PATIENCE
from tests.rig.websocket import MODERN, websocket
from tests.serving.test_tls import files
from tests.transports.listener.frames import PING, TEXT, Heard, close, frame, frames, handshake, text
from trio_mcp import MCPServer
from trio_mcp.auth import Principal
from trio_mcp.serving.hypercorn_front import _MessageBuffer
from trio_mcp.serving.node import serve
from trio_mcp.serving.settings import load

__all__ = ["files"]

pytestmark = pytest.mark.sockets

MAX = 4096


def server() -> MCPServer:
    def authenticate(request: Any) -> Principal | None:
        given = request.header("authorization")
        return {"Bearer good": Principal("ada")}.get(given)

    mcp = MCPServer("fronts", auth=authenticate)

    @mcp.tool
    async def length(text: str) -> int:
        return len(text)

    return mcp


@asynccontextmanager
async def served(front: str, certificate: Path | None = None, key: Path | None = None) -> AsyncIterator[str]:
    """The URL of a node on that front; it is stopped by SIGTERM."""
    settings = load(
        port=0, server=front, certfile=certificate, keyfile=key, websocket=True, max_body=MAX, drain_timeout=1
    )
    send, receive = trio.open_memory_channel[list[str]](1)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                assert await serve(server(), settings, announce=lambda urls, _: send.send_nowait(urls)) == 0

            nursery.start_soon(run)
            (url,) = await receive.receive()
            yield url.replace("127.0.0.1", "localhost")
            signal.raise_signal(signal.SIGTERM)


class Dialled:
    """A handshake over HTTP/1.1 that was answered, and the frames after it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._heard = b""
        self.status = 0
        self.extensions = ""

    async def shake_hands(self, headers: dict[str, str]) -> None:
        named = {name.replace("-", "_"): value for name, value in headers.items() if value}
        dropped = {name.replace("-", "_"): None for name, value in headers.items() if not value}
        await self._stream.send_all(handshake("GET /mcp HTTP/1.1", **named, **dropped))
        while b"\r\n\r\n" not in self._heard:
            await self._more()
        head, _, self._heard = self._heard.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1])
        found = [
            line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"sec-websocket-ext")
        ]
        self.extensions = b"".join(found).decode()

    async def say(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        assert data, "the server closed"
        self._heard += data

    async def hear(self) -> Heard:
        """The next frame that is no ping."""
        found = Heard(PING, b"")
        while found.opcode == PING:
            while (whole := whole_frame(self._heard)) is None:
                await self._more()
            (found,) = frames(self._heard[:whole])
            self._heard = self._heard[whole:]
        return found


class DialledOverHttp2(Dialled):
    """The same over HTTP/2 (RFC 8441)."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self._http2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self._over = False

    async def shake_hands(self, headers: dict[str, str]) -> None:
        self._http2.initiate_connection()
        await self._flush()
        while not self._http2.remote_settings.enable_connect_protocol:
            await self._more()
        fields = {"Host": "localhost", "Sec-WebSocket-Protocol": "mcp", **headers}
        head = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/mcp"}
        head |= {":authority": fields.pop("Host"), "sec-websocket-version": "13"}
        head |= {name.lower(): value for name, value in fields.items() if value}
        self._http2.send_headers(1, list(head.items()))
        await self._flush()
        while not self.status:
            await self._more()
        # To the listener's eyes a WebSocket over HTTP/2 is accepted with a 200.
        self.status = 101 if self.status == 200 else self.status

    async def say(self, data: bytes) -> None:
        self._http2.send_data(1, data)
        await self._flush()

    async def _flush(self) -> None:
        await self._stream.send_all(self._http2.data_to_send())

    async def _more(self) -> None:
        assert not self._over, "the server ended the stream"
        data = await self._stream.receive_some()
        assert data, "the server closed"
        for event in self._http2.receive_data(bytes(data)):
            match event:
                case h2.events.ResponseReceived():
                    answered = dict(event.headers)
                    self.status = int(answered[b":status"])
                    self.extensions = answered.get(b"sec-websocket-extensions", b"").decode()
                case h2.events.DataReceived():
                    self._heard += event.data
                    self._http2.acknowledge_received_data(event.flow_controlled_length, 1)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._over = True
        await self._flush()


def whole_frame(data: bytes) -> int | None:
    """The length of the frame that `data` begins with, if all of it is there."""
    if len(data) < 4:
        return 2 if len(data) >= 2 and data[1] == 0 else None
    extended = {126: 2, 127: 8}.get(data[1], 0)
    size = int.from_bytes(data[2 : 2 + extended], "big") if extended else data[1]
    return 2 + extended + size if len(data) >= 2 + extended + size else None


Dial = Callable[..., AbstractAsyncContextManager[Dialled]]


def dialling(url: str, certificate: Path | None, http2: bool) -> Dial:
    """A function that opens a connection and sends a handshake with these headers; None leaves one out."""
    port = int(url.rpartition(":")[2].partition("/")[0])

    @asynccontextmanager
    async def dial(**headers: str) -> AsyncIterator[Dialled]:
        stream: trio.abc.Stream = await trio.open_tcp_stream("localhost", port)
        if certificate is not None:
            context = ssl.create_default_context(cafile=str(certificate))
            context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
            assert isinstance(stream, trio.SocketStream)
            stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        async with stream:
            found = (DialledOverHttp2 if http2 else Dialled)(stream)
            given = {"Host": "localhost", "Authorization": "Bearer good"}
            await found.shake_hands(given | {name.replace("_", "-"): value for name, value in headers.items()})
            yield found

    return dial


async def refuses_what_http_refuses(dial: Dial) -> None:
    """Rows 3, 5 and 6: before any 101."""
    for headers, status in [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer bad"}, 401),
        ({"Sec_WebSocket_Protocol": "foo"}, 400),
        ({"Sec_WebSocket_Protocol": "foo, mcp"}, 101),
        ({}, 101),
    ]:
        async with dial(**headers) as client:
            assert client.status == status, headers


async def accepts_no_extension(dial: Dial) -> None:
    """Row 10: no message is compressed, and none inflates."""
    async with dial(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits") as client:
        assert client.status == 101
        assert client.extensions == ""
        await client.say(text("{"))
        assert b"-32700" in (await client.hear()).payload


async def goes_on_after_1009(dial: Dial) -> None:
    """A client that takes no notice of the close and goes on sending is answered nothing more, and ends."""
    async with dial() as client:
        await client.say(frame(TEXT, b"x" * (MAX + 1)))
        assert (await client.hear()).code == 1009
        with suppress(trio.BrokenResourceError, AssertionError):
            for _ in range(10):
                await client.say(frame(TEXT, b"x" * MAX))
            await client.say(close(1009))
            while True:
                await client.hear()


async def converses(dial: Dial) -> None:
    """A session, and requests of 2026-07-28 on the same connection."""
    async with dial() as client:
        await client.say(text(json.dumps(initialize(1))))
        assert json.loads((await client.hear()).payload)["result"]["protocolVersion"] == "2025-11-25"
        for number, more in enumerate(({}, {"_meta": MODERN}), 2):
            call = {"name": "length", "arguments": {"text": "äöü"}, **more}
            await client.say(text(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call})))
            answer = json.loads((await client.hear()).payload)
            assert (answer["id"], answer["result"]["structuredContent"]) == (number, {"result": 3})
        await client.say(close(1000))
        assert (await client.hear()).code == 1000


async def counts_bytes(dial: Dial) -> None:
    """Row 11."""
    for size, padding, expected in [
        (MAX - 1, "a", None),
        (MAX, "a", None),
        (MAX + 1, "a", 1009),
        (MAX - 1, "😀", None),
        (MAX, "😀", None),
        (MAX + 1, "😀", 1009),
    ]:
        async with dial() as client:
            await client.say(frame(TEXT, message_of(size, padding)))
            heard = await client.hear()
            assert heard.code == expected if expected else json.loads(heard.payload)["id"] == 1, (size, padding)


async def answers_what_is_no_message(dial: Dial) -> None:
    """Row 16: with an error, and the connection goes on. (One byte order mark is ignored, as over HTTP.)"""
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    async with dial() as client:
        for bad in ("{", "", "{}{}", f"{ping}\n{ping}", f"\ufeff\ufeff{ping}", "[" * 4000):
            await client.say(text(bad))
            answer = json.loads((await client.hear()).payload)
            assert answer["error"]["code"] == -32700, bad
            assert "id" not in answer
        await client.say(frame(PING, b"still there?"))
        assert (await client.hear()).payload == b"still there?"


def initialize(number: int) -> dict[str, Any]:
    client = {"name": "t", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": params}


def message_of(size: int, padding: str) -> bytes:
    """A request of that many bytes."""
    whole = initialize(1)
    whole["params"]["clientInfo"]["name"] = ""
    missing = size - len(json.dumps(whole).encode())
    wide = len(padding.encode())
    whole["params"]["clientInfo"]["name"] = padding * (missing // wide) + "a" * (missing % wide)
    data = json.dumps(whole, ensure_ascii=False).encode()
    assert len(data) == size
    return data


CHECKS = (
    refuses_what_http_refuses,
    accepts_no_extension,
    converses,
    counts_bytes,
    goes_on_after_1009,
    answers_what_is_no_message,
)
FRONTS = {
    "our listener": ("own", False, False),
    "Hypercorn": ("hypercorn", False, False),
    "Hypercorn with TLS": ("hypercorn", True, False),
    "Hypercorn with HTTP/2": ("hypercorn", True, True),
}


@pytest.mark.requirement("ws-10", "ws-37")
@pytest.mark.parametrize("front", FRONTS)
async def test_a_websocket_is_the_same_on_every_front(front: str, files: tuple[Path, Path]) -> None:
    kind, tls, http2 = FRONTS[front]
    certificate, key = files if tls else (None, None)
    async with served(kind, certificate, key) as url:
        dial = dialling(url, certificate, http2)
        for check in CHECKS:
            await check(dial)


@pytest.mark.requirement("ws-37")
async def test_a_client_of_a_library_speaks_over_tls(files: tuple[Path, Path]) -> None:
    certificate, key = files
    async with served("hypercorn", certificate, key) as url:
        good = [("authorization", "Bearer good")]
        async with websocket(url, headers=good, trusted=str(certificate)) as client:
            await client.initialize()
            assert await client.tool("length", text="abc") == "3"
        with pytest.raises(ConnectionRejected) as refused:
            async with websocket(url, trusted=str(certificate)):
                raise AssertionError("it was accepted")
        assert refused.value.status_code == 401


def test_a_message_that_was_refused_is_not_collected_further() -> None:
    buffer = _MessageBuffer(10)
    buffer.extend(TextMessage(data="x" * 10))
    for _ in range(3):
        with pytest.raises(FrameTooLargeError):
            buffer.extend(TextMessage(data="x" * 11))
        assert (buffer.value, buffer.length) == (None, 0)
