"""What a node that drains still waits for."""

from __future__ import annotations

import json
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.transports.http.harness import serving
from trio_mcp import MCPServer
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.sessions.stop_times import ALONE_SECONDS, CUT_ANSWERS_SECONDS, LAST_CALLS_SECONDS
from trio_mcp.testing import asgi_client

HEADERS = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
    ("host", "localhost"),
]


def request(id: int, method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()


async def test_a_call_whose_client_has_left_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    server, called, go, ends = MCPServer("x"), trio.Event(), trio.Event(), list[str]()

    @server.tool
    async def work() -> None:
        called.set()
        try:
            await go.wait()
        except trio.Cancelled:
            ends.append("cancelled")
            raise
        ends.append("done")

    app = server.http_app()
    async with app.running(), asgi_client(app) as wire, trio.open_nursery() as nursery:
        offer = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        opening = wire.start("POST", "/mcp", HEADERS, request(0, "initialize", offer))
        assert await opening.head() == 200
        session = [*HEADERS, ("mcp-session-id", opening.headers["mcp-session-id"])]
        call = wire.start("POST", "/mcp", session, request(1, "tools/call", {"name": "work", "arguments": {}}))
        await called.wait()
        call.disconnect()
        await call.finished.wait()

        nursery.start_soon(drain, app, 25.0)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        go.set()
    assert ends == ["done"]
    assert trio.current_time() - began < 1


async def test_without_peers_a_cancelled_call_has_their_time_too_for_its_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server, called = MCPServer("x"), trio.Event()

    @server.tool
    async def slow_to_stop() -> None:
        called.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(CUT_ANSWERS_SECONDS + ALONE_SECONDS / 2)

    async with serving(server) as wire:
        call = (await wire.open()).tool("slow_to_stop")
        await called.wait()
        await trio.sleep(LAST_CALLS_SECONDS)
        await drain(wire.app, 0.0)
        await end_remaining(wire.app)
        assert (await call.error())["message"] == "The server is shutting down"


async def test_a_cancelled_call_is_answered_before_the_sessions_at_rest_have_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server, called = MCPServer("x"), trio.Event()

    @server.tool
    async def work() -> None:
        called.set()
        await trio.sleep_forever()

    async with serving(server) as wire, trio.open_nursery() as nursery:
        busy = await wire.open()
        for _ in range(300):
            await wire.open()
        call = busy.tool("work")
        await called.wait()
        await trio.sleep(LAST_CALLS_SECONDS)
        open_sessions = list[int]()

        async def answered() -> None:
            assert (await call.error())["message"] == "The server is shutting down"
            open_sessions.append(len(wire.app.hub))

        nursery.start_soon(answered)
        await drain(wire.app, 0.0)
        await end_remaining(wire.app)
    assert open_sessions[0] > 200
