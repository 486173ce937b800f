"""Tasks over a WebSocket: they outlive its end, and any later connection of their caller polls them."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tasks.harness import DECLARED, TaskOracle, with_tasks
from tests.transports.http.harness import MODERN
from tests.transports.websocket.harness import Door, WebSocket, offering
from trio_mcp import Task
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY


async def connect(door: Door) -> WebSocket:
    socket = await door.connect()
    socket._modern = TaskOracle(MODERN)
    return socket


async def ask(socket: WebSocket, method: str, params: dict[str, Any]) -> dict[str, Any]:
    declared: dict[str, Any] = {CLIENT_CAPABILITIES_KEY: DECLARED}
    socket.start_modern(method, params, **declared)
    result: dict[str, Any] = (await socket.hear())["result"]
    return result


async def test_a_task_outlives_the_connection_that_began_it(autojump_clock: MockClock) -> None:
    mcp = with_tasks()

    @mcp.tool(task=Task(after=0))
    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    async with offering(mcp) as door:
        first = await connect(door)
        begun = await ask(first, "tools/call", {"name": "work", "arguments": {"seconds": 2}})
        assert begun["resultType"] == "task"
        first.leave(1006)
        await first.finished.wait()
        await wait_all_tasks_blocked()
        second = await connect(door)
        assert (await ask(second, "tasks/get", {"taskId": begun["taskId"]}))["status"] == "working"
        await trio.sleep(3)
        ended = await ask(second, "tasks/get", {"taskId": begun["taskId"]})
        assert ended["status"] == "completed"
        assert ended["result"]["content"][0]["text"] == "done"
