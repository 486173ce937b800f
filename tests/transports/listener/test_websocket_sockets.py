"""WebSockets over real sockets: how clients leave, and clients that do not read."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
import trio
from trio_websocket import open_websocket

from tests.transports.listener.frames import CLOSE, PING, TEXT, close, frame, handshake, text
from tests.transports.listener.test_sockets import Server, hear, reset, serving, way
from tests.transports.listener.test_websocket_handshakes import after_101, echo
from trio_mcp.transports.listener import ClientDisconnected, Limits, Receive, Scope, Send

__all__ = ["way"]

pytestmark = pytest.mark.sockets

LIMITS = Limits(websockets=True)
MUCH = 8 << 20
"""More than the kernel buffers."""


async def opened(server: Server) -> trio.SocketStream:
    client = await server.connect()
    await client.send_all(handshake())
    await hear(client, until=b"\r\n\r\n")
    return client


async def drain(client: trio.SocketStream) -> None:
    """Read to the end and keep nothing: there is much."""
    while await client.receive_some():
        pass


class Sender:
    """Sends `amount` bytes in one message while it listens; notes with which code it was told of the end."""

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self.code: int | None = None
        self.ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, send)
            while (message := await receive())["type"] != "websocket.disconnect":
                pass
            self.code = message["code"]
            self.ended.set()
            nursery.cancel_scope.cancel("the client left")

    async def _send(self, send: Send) -> None:
        with suppress(ClientDisconnected):
            await send({"type": "websocket.send", "text": "y" * self._amount})


LEAVES = ["close frame", "close", "reset", "half-close", "pings and half-close"]


@pytest.mark.requirement("ws-29", "ws-30")
@pytest.mark.parametrize("amount", [1, MUCH], ids=["quiet", "while much is sent"])
@pytest.mark.parametrize("leave", LEAVES)
async def test_a_client_that_leaves_is_noticed_at_once_and_nothing_is_left(
    caplog: pytest.LogCaptureFixture, leave: str, amount: int
) -> None:
    """The write deadline is longer than the test has patience: nothing waits for it."""
    app = Sender(amount)
    async with serving(app, Limits(websockets=True, write_seconds=10_000, ping_seconds=10_000)) as server:
        client = await opened(server)
        await hear(client, until=b"y")
        if leave == "close frame":
            await client.send_all(close(1000))
            await drain(client)
        elif leave == "reset":
            reset(client)
        elif leave == "close":
            await client.aclose()
        else:
            if "pings" in leave:
                await client.send_all(frame(PING) * 100)
            await client.send_eof()
        await app.ended.wait()
        client.socket.close()
        server.stopping.set()
        await server.stopped.wait()
    assert app.code == (1000 if leave == "close frame" else 1006)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.requirement("ws-25")
async def test_a_client_that_does_not_read_costs_the_others_nothing() -> None:
    much = Sender(MUCH)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (much if scope["path"] == "/much" else echo)(scope, receive, send)

    async with serving(app, Limits(websockets=True, write_seconds=0.5)) as server:
        stalled = await server.connect()
        await stalled.send_all(handshake("GET /much HTTP/1.1"))
        client = await opened(server)
        rounds = 0
        while not much.ended.is_set():
            await client.send_all(text("x"))
            assert await client.receive_some() == b"\x81\x01x"
            rounds += 1
        assert rounds > 10
        assert much.code == 1006
        await stalled.aclose()
        await client.aclose()


@pytest.mark.requirement("ws-27")
async def test_a_client_that_answers_no_ping_is_reset() -> None:
    """A clean end would leave the connection to the kernel, which sends to a client that is not there for minutes."""
    async with serving(echo, Limits(websockets=True, ping_seconds=0.1)) as server:
        client = await opened(server)
        with pytest.raises(trio.BrokenResourceError):
            await drain(client)
        await client.aclose()


@pytest.mark.requirement("ws-12")
async def test_a_client_that_goes_on_sending_still_reads_the_close_frame() -> None:
    """A close with unread bytes would reset the connection, and destroy the frame on its way."""
    async with serving(echo, Limits(websockets=True, body_bytes=1000)) as server:
        client = await server.connect()
        with suppress(trio.BrokenResourceError):
            await client.send_all(handshake() + frame(TEXT, b"x" * 4096, size=1 << 40))
            await client.send_all(b"x" * (4 << 20))
        [last] = after_101(await hear(client))
        assert (last.opcode, last.code) == (CLOSE, 1009)
        await client.aclose()


@pytest.mark.requirement("ws-28")
async def test_a_client_of_a_library_sends_and_gets_large_messages_and_pings_meanwhile() -> None:
    message = "ä€😀" * 100_000
    async with serving(echo, LIMITS) as server:
        host, port = server.listeners[0].socket.getsockname()[:2]
        async with open_websocket(
            host, port, "/", use_ssl=False, subprotocols=["mcp"], max_message_size=len(message)
        ) as client:
            assert client.subprotocol == "mcp"
            for _ in range(3):
                await client.send_message(message)
                await client.ping()
                assert await client.get_message() == message
