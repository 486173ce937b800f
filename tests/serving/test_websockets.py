"""A node with WebSockets stops: what its clients are told, over real sockets and both fronts."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.serving.process import LAST_WORDS_SECONDS, ServedProcess, served
from tests.transports.http.harness import LEGACY, MODERN
from tests.transports.listener.frames import handshake

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

DRAIN = 3.0
OPEN = 40
PATIENCE = 60.0
OFFER = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Client:
    """One connection, which hears everything until its end."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    async def ask(self, id: int, method: str, params: dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))

    async def open(self) -> None:
        await self.ask(0, "initialize", OFFER)
        assert "result" in json.loads(await self.socket.get_message())

    async def call(self, id: int, tool: str, *, modern: bool = False, **arguments: Any) -> None:
        await self.ask(id, "tools/call", {"name": tool, "arguments": arguments, **({"_meta": META} if modern else {})})

    async def rest(self) -> int:
        """Hear everything that comes; the close code."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                self.heard.append(json.loads(await self.socket.get_message()))
        code = closed.value.reason and closed.value.reason.code
        return int(code or 0)


class Clients:
    """Connects to one node; their sockets are closed at the end, which the library leaves to its peer."""

    def __init__(self, node: ServedProcess, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._node = node
        self._stack = stack
        self._nursery = nursery

    async def connect(self) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", self._node.port)
        self._stack.push_async_callback(trio.aclose_forcefully, stream)
        host = f"127.0.0.1:{self._node.port}"
        socket = await wrap_client_stream(self._nursery, stream, host, "/mcp", subprotocols=["mcp"])
        assert socket.subprotocol == "mcp"
        return Client(socket)

    async def refused(self) -> int:
        """The status of the response to one more handshake."""
        async with await trio.open_tcp_stream("127.0.0.1", self._node.port) as stream:
            await stream.send_all(handshake("GET /mcp HTTP/1.1", Host="localhost"))
            return int((await stream.receive_some()).split()[1])


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[tuple[ServedProcess, Clients]]:
    with trio.fail_after(PATIENCE):
        async with served("--websocket", *flags) as node, AsyncExitStack() as stack, trio.open_nursery() as nursery:
            yield node, Clients(node, stack, nursery)
            nursery.cancel_scope.cancel("the node is gone")


async def ends(client: Client, codes: list[int]) -> None:
    codes.append(await client.rest())


@pytest.mark.requirement("ws-33")
@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_sigterm_ends_each_with_1001_and_answers_every_call(front: str) -> None:
    codes: list[int] = []
    async with serving("--drain-timeout", str(DRAIN), "--server", front) as (node, clients):
        idle = [await clients.connect() for _ in range(OPEN)]
        for client in idle[::2]:
            await client.open()
        busy = {}
        for seconds in (0.5, 1, 60, 61):
            busy[seconds] = client = await clients.connect()
            await client.open()
            await client.call(1, "sleep", seconds=seconds)
            await client.call(2, "sleep", modern=True, seconds=seconds)
        stuck = await clients.connect()
        await stuck.open()
        await stuck.call(1, "shielded", seconds=60)
        await stuck.ask(2, "ping", {})
        assert json.loads(await stuck.socket.get_message())["id"] == 2
        node.process.send_signal(signal.SIGTERM)
        await node.says("draining")
        assert await clients.refused() == 503
        async with trio.open_nursery() as listening:
            for client in (*idle, *busy.values()):
                listening.start_soon(ends, client, codes)
        assert Counter(codes) == {1001: len(codes)}
        for seconds, client in busy.items():
            assert {message["id"]: "result" in message for message in client.heard} == dict.fromkeys(
                (1, 2), seconds < DRAIN
            )
        assert await node.process.wait() == 0
        with trio.fail_after(LAST_WORDS_SECONDS):
            await node.silent.wait()
    assert "Traceback" not in node.log
    assert "tools/call shielded" in node.log


@pytest.mark.requirement("ws-34")
async def test_a_second_signal_ends_the_process_at_once() -> None:
    async with serving("--drain-timeout", str(10 * PATIENCE)) as (node, clients):
        client = await clients.connect()
        await client.open()
        await client.call(1, "sleep", seconds=10 * PATIENCE)
        node.process.send_signal(signal.SIGTERM)
        await node.says("draining")
        node.process.send_signal(signal.SIGTERM)
        assert await node.process.wait() == -signal.SIGTERM
        assert await client.rest() == 1006
