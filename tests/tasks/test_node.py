"""What operators see of tasks, and what a handler that fails badly costs others."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tasks.harness import TaskClient, task_client, with_tasks
from trio_mcp import Context, MCPServer, Task
from trio_mcp.features.task_options import TASKS
from trio_mcp.streams.backlog import Kind
from trio_mcp.transports.http.modern import Delivery


def server() -> MCPServer:
    mcp = with_tasks()

    @mcp.tool(task=Task(after=0))
    async def work(ctx: Context, seconds: float = 1, fault: str = "") -> str:
        try:
            await trio.sleep(seconds)
        finally:
            if fault == "in cleanup":
                raise RuntimeError("cleanup")
        match fault:
            case "exit":
                raise SystemExit(3)
            case "group":
                raise BaseExceptionGroup("all", [SystemExit(3), ValueError("x")])
        return "done"

    return mcp


def metric(client: TaskClient, name: str, **labels: str) -> float:
    return client.wire.app.service.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_tasks_are_counted_by_how_they_end_and_have_two_lines_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with task_client(server()) as client:
        tasks = [await client.begin("work", seconds=seconds) for seconds in (1, 100)]
        await wait_all_tasks_blocked()
        assert metric(client, "trio_mcp_tasks_running") == 2
        await client.cancel(tasks[1])
        for task in tasks:
            await client.until(task)
        assert metric(client, "trio_mcp_tasks_running") == 0
        assert metric(client, "trio_mcp_tasks_begun_total") == 2
        assert metric(client, "trio_mcp_tasks_ended_total", status="completed", reason="") == 1
        assert metric(client, "trio_mcp_tasks_ended_total", status="cancelled", reason="") == 1
        requests = {"gen_ai_tool_name": "work", "mcp_protocol_version": "2026-07-28", "network_transport": "tcp"}
        counted = {**requests, "mcp_method_name": "tools/call", "error_type": ""}
        assert metric(client, "mcp_server_operation_duration_seconds_count", **counted) == 2, "each request once"
    lines = [record.getMessage() for record in caplog.records]
    assert (lines.count("task began"), lines.count("task ended")) == (2, 2)
    assert not any(task["taskId"] in str(record.__dict__) for task in tasks for record in caplog.records), (
        "a credential"
    )


@pytest.mark.parametrize("fault", ["exit", "group", "in cleanup"])
async def test_a_handler_that_fails_badly_harms_itself_alone(fault: str, autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        other = await client.begin("work", seconds=5)
        result = (await client.until(await client.begin("work", fault=fault)))["result"]
        assert result["isError"]
        assert "(ref " in result["content"][0]["text"]
        assert (await client.until(other))["result"]["content"][0]["text"] == "done"
        cancelled = await client.begin("work", seconds=100, fault="in cleanup")
        await wait_all_tasks_blocked()
        await client.cancel(cancelled)
        assert (await client.until(cancelled))["status"] in ("cancelled", "completed", "failed")
        assert client.node.runs == {}


async def test_a_task_that_is_taken_over_while_the_node_ends_is_left_to_others(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        await client.begin("work", seconds=100)
        node = client.node
        (task,) = node.store.here()
        node._ending = True
        node.run(task)
        (left,) = node.store.here()
        assert left.released
    node.run(task)
    assert node.runs == {}


async def test_a_first_tool_with_task_that_comes_while_the_server_runs_is_an_ordinary_one(
    autojump_clock: MockClock,
) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def grow() -> str:
        @mcp.tool(task=True)
        async def late() -> str:
            await trio.sleep(2)
            return "late"

        @mcp.tool(task=Task("required"))
        async def too_late() -> None: ...

        return "grown"

    async with task_client(mcp) as client:
        await client.tool("grow").result()
        assert (await client.tool("late").result())["content"][0]["text"] == "late"
        exchange = client.tool("too_late")
        assert (await exchange.error())["code"] == -32603
        assert await exchange.head() == 503
        assert (await client.get("x" * 24).error())["code"] in (-32602, -32603)


async def test_a_tool_may_have_options_for_several_extensions(autojump_clock: MockClock) -> None:
    mcp = with_tasks()

    @mcp.tool(task=True, ui="ui://site/chart")
    async def chart(seconds: float) -> str:
        await trio.sleep(seconds)
        return "drawn"

    @mcp.app("ui://site/chart")
    async def page() -> str:
        return "<!doctype html>"

    async with task_client(mcp) as client:
        declared: dict[str, Any] = (await client.wire.modern().start("tools/list").result())["tools"][0]
        assert declared["_meta"]["ui"]["resourceUri"] == "ui://site/chart"
        assert (await client.tool("chart", seconds=0).result())["resultType"] == "complete"
        task = await client.begin("chart", seconds=2)
        assert (await client.until(task))["result"]["content"][0]["text"] == "drawn"
        assert TASKS in client.wire.app.service.extensions


@pytest.mark.parametrize("drained", [False, True])
async def test_the_ends_of_tasks_are_written_when_the_server_ends_unless_its_drain_has_done_so(
    autojump_clock: MockClock, drained: bool
) -> None:
    written: list[str] = []
    async with task_client(server()) as client:
        store, task = client.store, await client.begin("work", seconds=100)

        async def flushed() -> None:
            written.append((await store.get(task["taskId"])).status.value)

        store.flushed = flushed
        if drained:
            client.node.end_all()
    assert written == ([] if drained else ["failed"])


async def test_what_a_handler_says_in_its_cleanup_after_its_client_has_left_goes_nowhere(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mcp, sent, said = with_tasks(), list[bytes](), trio.Event()
    monkeypatch.setattr(Delivery, "emit", lambda self, data, kind, key=None: sent.append(data))

    @mcp.tool(task=Task(after=60))
    async def work(ctx: Context) -> None:
        ctx._call.emit(b"1", Kind.LOG)
        try:
            await trio.sleep_forever()
        finally:
            ctx._call.emit(b"2", Kind.LOG)
            said.set()

    async with task_client(mcp) as client:
        exchange = client.tool("work")
        await wait_all_tasks_blocked()
        exchange.disconnect()
        await said.wait()
    assert sent == [b"1"]
