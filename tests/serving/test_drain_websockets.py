"""What a drain does to WebSockets: each ends with 1001 when none of its calls runs, evenly over the window."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.websocket.harness import offering
from trio_mcp import MCPServer
from trio_mcp.serving.drain import drain, end_remaining

GOING_AWAY = (1001, "the server is shutting down")
WINDOW = 25.0


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test")

    @mcp.tool
    async def after(seconds: float) -> str:
        await trio.sleep(seconds)
        return f"after {seconds:g}"

    return mcp


@pytest.mark.requirement("ws-33")
async def test_each_ends_when_none_of_its_calls_runs(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp) as door:
        idle = [await door.connect() for _ in range(90)]
        for socket in idle[:45]:
            await socket.open()
        busy = {seconds: await door.connect() for seconds in (1, 5, 10, 20, 24, 26, 40, 60)}
        for seconds, socket in busy.items():
            if seconds % 8:
                await socket.open()
            call = socket.call if seconds % 4 else socket.call_modern
            call("after", seconds=seconds)
        await wait_all_tasks_blocked()
        began, ended, answers = trio.current_time(), dict[int, float](), {}

        async def follow(number: int) -> None:
            socket = (idle + list(busy.values()))[number]
            answers[number] = await socket.rest()
            await socket.finished.wait()
            ended[number] = trio.current_time() - began
            assert socket.closed == GOING_AWAY

        async with trio.open_nursery() as nursery:
            for number in range(98):
                nursery.start_soon(follow, number)
            await drain(door.app, WINDOW)
            refused = await door.knock("mcp")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            await end_remaining(door.app)

        ends = sorted(ended[number] for number in range(90))
        assert max(later - earlier for earlier, later in pairwise(ends)) < 1, "evenly"
        assert ends[0] < 1
        assert ends[-1] < WINDOW
        for number, seconds in enumerate(busy, 90):
            (answer,) = answers[number]
            assert ("result" in answer) == (seconds < WINDOW), answer
            assert ended[number] >= min(seconds, WINDOW)
            assert "result" in answer or answer["error"]["message"] == "The server is shutting down"
        assert door.app.open_exchanges == 0


@pytest.mark.requirement("ws-33")
async def test_new_ones_are_refused_from_the_signal_on(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp) as door, trio.open_nursery() as nursery:
        nursery.start_soon(drain, door.app, WINDOW)
        await wait_all_tasks_blocked()
        assert (await door.knock("mcp")).status == 503
