"""What a node that drains still waits for."""

from __future__ import annotations

import json
from typing import Any

import pytest
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


async def test_without_peers_the_last_answers_have_the_time_that_peers_would_need(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server, called, over = MCPServer("x"), trio.Event(), trio.Event()

    @server.tool
    async def shielded() -> None:
        called.set()
        with trio.CancelScope(shield=True):
            await over.wait()

    async with serving(server) as wire:
        (await wire.open()).tool("shielded")
        await called.wait()
        began = trio.current_time()
        await end_remaining(wire.app)
        took = trio.current_time() - began
        over.set()
    assert took == pytest.approx(CUT_ANSWERS_SECONDS + ALONE_SECONDS)


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


async def test_a_worker_that_has_nothing_left_serves_on_until_it_may_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = list[bool]()

    async with serving(MCPServer("x")) as wire:
        began = trio.current_time()

        def may_end(left: bool) -> bool:
            asked.append(left)
            return trio.current_time() - began >= 5

        await drain(wire.app, 25.0, may_end=may_end)
        took = trio.current_time() - began
    assert took == pytest.approx(5, abs=0.2)
    assert set(asked) == {False}
