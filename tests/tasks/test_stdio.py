"""Tasks over stdio: they end with the process, and the process does not wait for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.tasks.harness import DECLARED, TaskOracle, with_tasks
from tests.transports.test_stdio import MODERN, piped
from trio_mcp import Task
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY

DECLARES: dict[str, Any] = {CLIENT_CAPABILITIES_KEY: DECLARED}

SERVER = """
import trio
from trio_mcp import MCPServer, Task

mcp = MCPServer("stdio")

@mcp.tool(task=Task(after=0))
async def work(shielded: bool = False) -> None:
    with trio.CancelScope(shield=shielded):
        await trio.sleep(3600)

mcp.run()
"""


@pytest.mark.requirement("tasks-43")
async def test_a_task_is_polled_over_stdio_and_ends_with_stdin(autojump_clock: MockClock) -> None:
    mcp = with_tasks()
    ended: list[str] = []

    @mcp.tool(task=Task(after=0))
    async def work(seconds: float) -> str:
        try:
            await trio.sleep(seconds)
        finally:
            ended.append(f"{seconds:g}")
        return "done"

    async with piped(mcp) as client:
        client._modern = TaskOracle(MODERN)

        async def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
            await client.start_modern(method, params, **DECLARES)
            result: dict[str, Any] = (await client.hear())["result"]
            return result

        quick = await ask("tools/call", {"name": "work", "arguments": {"seconds": 2}})
        await ask("tools/call", {"name": "work", "arguments": {"seconds": 3600}})
        assert quick["resultType"] == "task"
        # A cancellation names requests, and this one is answered.
        await client.notify("notifications/cancelled", {"requestId": 1})
        await trio.sleep(3)
        assert (await ask("tasks/get", {"taskId": quick["taskId"]}))["status"] == "completed"
        began = trio.current_time()
        await client.stdin.aclose()
        assert await client.hear() is None
        await client.ended.wait()
        assert trio.current_time() - began < 1
    assert ended == ["2", "3600"]


@pytest.mark.processes
@pytest.mark.requirement("tasks-43")
@pytest.mark.parametrize("shielded", [False, True])
async def test_the_process_ends_while_a_task_runs(shielded: bool, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, **DECLARES}
    call = {"name": "work", "arguments": {"shielded": shielded}, "_meta": meta}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    done = await trio.run_process(
        [sys.executable, str(tmp_path / "server.py")],
        stdin=json.dumps(request).encode() + b"\n",
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert b'"resultType":"task"' in done.stdout
    assert done.returncode == 0
