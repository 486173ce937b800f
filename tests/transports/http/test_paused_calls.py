"""Requests that wait while the calls of their session are paused, because it is about to move; everything else goes on."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import serving
from trio_mcp import MCPServer
from trio_mcp.protocol.errors import REQUEST_CANCELLED
from trio_mcp.sessions.calls import PAUSE_SECONDS
from trio_mcp.sessions.close_reason import CloseReason


async def test_a_request_waits_and_is_then_served() -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            ping = client.start("ping")
            await wait_all_tasks_blocked()
            assert len(session.calls) == 0
            assert not ping.raw.finished.is_set()
        assert await ping.result() == {}


async def test_a_request_that_has_waited_long_enough_is_served(autojump_clock: MockClock) -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            began = trio.current_time()
            assert await client.start("ping").result() == {}
            assert trio.current_time() - began >= PAUSE_SECONDS


async def test_a_request_that_waits_can_be_cancelled_and_never_runs() -> None:
    mcp, ran = MCPServer("x"), list[str]()

    @mcp.tool
    async def work() -> None:
        ran.append("work")

    async with serving(mcp) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            waiting, other = client.tool("work", id=9), client.start("ping", id=10)
            await wait_all_tasks_blocked()
            assert await client.notify("notifications/cancelled", {"requestId": 9}) == 202
            assert (await waiting.error())["code"] == REQUEST_CANCELLED
        assert await other.result() == {}
    assert ran == []


async def test_an_answer_to_a_call_in_flight_does_not_wait_also_in_a_batch() -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open("2025-03-26")
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            assert await client.post([{"jsonrpc": "2.0", "id": 77, "result": {}}]).nothing() == 202
            assert await client.reply(78, {}) == 202
            mixed = client.post([{"jsonrpc": "2.0", "id": 1, "method": "ping"}])
            await wait_all_tasks_blocked()
            assert not mixed.raw.finished.is_set()


async def test_a_request_that_waits_goes_on_at_once_when_its_session_ends(autojump_clock: MockClock) -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        session.calls.pause()
        waiting, began = client.start("ping"), trio.current_time()
        await wait_all_tasks_blocked()
        session.close(CloseReason.SHUTDOWN)
        assert await waiting.head() == 404
        assert trio.current_time() == began


async def test_a_request_waits_on_where_calls_are_paused_again_before_it_runs() -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            ping = client.start("ping")
            await wait_all_tasks_blocked()
        with session.calls.pausing():
            await wait_all_tasks_blocked()
            assert not ping.raw.finished.is_set()
        assert await ping.result() == {}


async def test_a_delete_does_not_wait() -> None:
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        with session.calls.pausing():
            waiting = client.start("ping")
            await wait_all_tasks_blocked()
            assert await client.delete().nothing() == 204
        assert await waiting.head() == 404
