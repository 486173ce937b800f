"""Answers that begin later than they could, for proxies that break off one which comes while they still send its request."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.http.harness import LEGACY, MODERN, SSE, Exchange, Wire, serving
from trio_mcp import Context, MCPServer
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.listener import open_listeners, serve

DELAY = 0.01
ERAS = [LEGACY, MODERN]


@pytest.fixture
def mcp() -> MCPServer:
    """One tool that reports progress at once and answers after `seconds`, one whose answer has `size` letters."""
    mcp = MCPServer("test")

    @mcp.tool
    async def report(ctx: Context, seconds: float = 0) -> str:
        await ctx.report_progress(1, 2)
        await trio.sleep(seconds)
        return "done"

    @mcp.tool
    async def letters(size: int) -> str:
        return "x" * size

    return mcp


async def call(wire: Wire, version: str, tool: str, **arguments: Any) -> Exchange:
    """The call in progress; its answer, and its progress if there is any, go on its own stream."""
    if version == MODERN:
        client = wire.modern()
        return client.tool(tool, meta={**client.meta(), "progressToken": "p"}, **arguments)
    session = await wire.open(version)
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
    return session.start("tools/call", params)


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(("delay", "begins"), [(DELAY, DELAY), (0, 0), (0.2, 0.2)])
async def test_a_streamed_answer_begins_no_sooner_than_the_delay_after_its_request(
    autojump_clock: MockClock, mcp: MCPServer, version: str, delay: float, begins: float
) -> None:
    async with serving(mcp, pace=Pace(stream_delay=delay)) as wire:
        exchange = await call(wire, version, "report", seconds=5)
        started = trio.current_time()
        assert await exchange.head() == 200
        assert exchange.headers["content-type"] == SSE
        assert trio.current_time() - started == pytest.approx(begins)
        assert len(await exchange.messages()) == 2


async def test_the_delay_counts_from_the_request_and_a_late_answer_does_not_wait_again(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp, pace=Pace(stream_delay=DELAY, sse_after=0.5)) as wire:
        session = await wire.open()
        started = trio.current_time()
        # Without a progress token nothing is said before the answer.
        exchange = session.tool("report", seconds=3)
        await exchange.head()
        assert trio.current_time() - started == pytest.approx(0.5)


async def test_what_is_complete_within_the_delay_goes_out_at_once_as_one_write(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp, pace=Pace(stream_delay=DELAY)) as wire:
        exchange = await call(wire, LEGACY, "report", seconds=0)
        started = trio.current_time()
        await exchange.head()
        assert trio.current_time() == started
        first = await exchange.raw.chunk()
        assert first is not None
        assert first.count(b"data: {") == 2
        assert await exchange.raw.chunk() is None


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(("size", "begins"), [(20, 0), (300_000, DELAY)])
async def test_a_large_json_answer_waits_as_a_stream_does(
    autojump_clock: MockClock, mcp: MCPServer, version: str, size: int, begins: float
) -> None:
    async with serving(mcp, pace=Pace(stream_delay=DELAY)) as wire:
        exchange = await call(wire, version, "letters", size=size)
        started = trio.current_time()
        await exchange.head()
        assert trio.current_time() - started == pytest.approx(begins)


async def test_a_stream_that_a_get_opens_has_no_request_to_wait_for(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp, pace=Pace(stream_delay=DELAY)) as wire:
        session = await wire.open()
        started = trio.current_time()
        await session.listen().head()
        assert trio.current_time() == started


@pytest.mark.sockets
@pytest.mark.parametrize("version", ERAS)
async def test_a_proxy_that_needs_the_delay_after_the_last_byte_has_it(mcp: MCPServer, version: str) -> None:
    """A fake proxy, over a real connection: it is not done with a request until `DELAY` after it sent the last byte."""
    app = mcp.http_app(pace=Pace(stream_delay=DELAY))
    async with app.running(), trio.open_nursery() as nursery:
        (listener,) = await open_listeners(["127.0.0.1:0"])
        await nursery.start(serve, app, [listener])
        proxy = await Proxy.open(listener.socket.getsockname()[1], version)
        assert await proxy.call("report", seconds=0.1) >= DELAY
        nursery.cancel_scope.cancel("the test is over")


class Proxy:
    """Sends the last byte of each request by itself, and looks when the answer begins."""

    def __init__(self, port: int, version: str) -> None:
        self._port = port
        self._version = version
        self._session = ""

    @classmethod
    async def open(cls, port: int, version: str) -> Proxy:
        """With a session, where the version has them."""
        proxy = cls(port, version)
        if version == LEGACY:
            client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
            head, _ = await proxy._send("initialize", client, {})
            (proxy._session,) = re.findall(r"mcp-session-id: (\S+)", head, re.IGNORECASE)
        return proxy

    async def call(self, tool: str, **arguments: Any) -> float:
        """Seconds from the request's last byte to the answer's first."""
        meta: dict[str, Any] = {"progressToken": "p"}
        headers = {"mcp-protocol-version": self._version, "mcp-session-id": self._session}
        if self._version == MODERN:
            prefix = "io.modelcontextprotocol/"
            meta |= {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
            meta[f"{prefix}clientInfo"] = {"name": "c", "version": "1"}
            headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
        head, seconds = await self._send("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, headers)
        assert SSE in head
        return seconds

    async def _send(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> tuple[str, float]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        lines = [
            "POST /mcp HTTP/1.1",
            "host: localhost",
            "content-type: application/json",
            f"accept: application/json, {SSE}",
            *(f"{name}: {value}" for name, value in headers.items()),
            f"content-length: {len(body)}",
        ]
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + body[:-1])
            sent = trio.current_time()
            await stream.send_all(body[-1:])
            head = await stream.receive_some()
            return head.decode(), trio.current_time() - sent
