"""When a call becomes a task, and what its client is told then."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tasks.harness import DECLARED, FORMS, TaskClient, running_tasks, task_client, with_tasks
from trio_mcp import Context, MCPServer, Principal, Task
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.features.task_options import TASKS
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.modern import Delivery


class Name(BaseModel):
    name: str


async def alice(_: HttpRequestView) -> Principal:
    return Principal("alice")


class Journal(list[str]):
    """What handlers did, in order."""


def server(journal: Journal | None = None, **arguments: Any) -> MCPServer:
    mcp = with_tasks(**arguments)
    did = Journal() if journal is None else journal

    @mcp.tool(task=True)
    async def work(seconds: float) -> str:
        did.append("began")
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            did.append("cancelled")
            raise
        did.append("done")
        return f"worked {seconds:g} s"

    @mcp.tool(task=Task("required"))
    async def needed(seconds: float) -> str:
        did.append("began")
        await trio.sleep(seconds)
        return "done"

    @mcp.tool(task=Task(after=0))
    async def from_the_start(ctx: Context) -> str:
        return str(ctx.task_id)

    @mcp.tool(task=Task("required", after=None))
    async def when_it_says(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name, key="user_name")
        await trio.sleep(2)
        before = ctx.task_id
        await ctx.background()
        assert answer.data is not None
        return f"{answer.data.name}: {before} {ctx.task_id} {ctx.headers}"

    @mcp.tool
    async def plain(ctx: Context) -> str:
        await ctx.background()
        return str(ctx.task_id)

    return mcp


async def plain_result(client: TaskClient, name: str, **arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = await client.tool(name, **arguments).result()
    assert result["resultType"] == "complete", result
    return result


@pytest.mark.requirement("tasks-1")
async def test_the_extension_is_declared_while_a_tool_has_it_and_nothing_else_is_said_of_tasks() -> None:
    mcp = server()
    async with task_client(mcp) as client:
        declared = (await client.start("server/discover").result())["capabilities"]
        assert declared["extensions"] == {TASKS: {}}
        assert "tasks" not in declared
        tools = (await client.start("tools/list").result())["tools"]
        assert not [tool for tool in tools if "execution" in tool]
        for name in ("work", "needed", "from_the_start", "when_it_says"):
            mcp.remove_tool(name)
        assert "extensions" not in (await client.start("server/discover").result())["capabilities"]


@pytest.mark.requirement("tasks-2")
async def test_a_session_knows_no_tasks_and_its_calls_run_as_others(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        opening = client.wire.initialize(capabilities=FORMS)
        assert set((await opening.result())["capabilities"]) == {"tools", "logging"}
        session = await client.wire.open(capabilities=FORMS)
        assert (await session.tool("work", seconds=2).result())["content"][0]["text"] == "worked 2 s"
        assert (await session.tool("plain").result())["content"][0]["text"] == "None"
        assert (await session.tool("needed", seconds=2).result())["content"][0]["text"] == "done"
        params = {"name": "work", "arguments": {"seconds": 2}, "task": {"ttl": 1}}
        assert "task" not in await session.start("tools/call", params).result()
        assert (await session.start("tasks/get", {"taskId": "x"}).error())["code"] == -32601


@pytest.mark.requirement("tasks-3")
async def test_a_quick_call_is_answered_at_once_and_recorded_nowhere(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        assert (await plain_result(client, "work", seconds=0.1))["structuredContent"] == {"result": "worked 0.1 s"}
        assert running_tasks(client) == []
        assert len(client.store) == 0


@pytest.mark.requirement("tasks-4")
async def test_a_call_that_takes_long_becomes_a_task_with_the_result_of_the_plain_call(
    autojump_clock: MockClock,
) -> None:
    async with task_client(server()) as client:
        began = trio.current_time()
        exchange = client.tool("work", seconds=2)
        task = await exchange.result()
        assert exchange.headers["content-type"] == "application/json", "not a stream that ends at once"
        assert trio.current_time() - began == pytest.approx(0.5)
        assert (task["status"], task["ttlMs"], task["pollIntervalMs"]) == ("working", 3_600_000, 500)
        assert (await client.state(task))["status"] == "working"
        ended = await client.until(task)
        assert trio.current_time() - began < 3
        client.capabilities = {}
        assert ended["result"] == await plain_result(client, "work", seconds=2)


@pytest.mark.requirement("tasks-5", "tasks-6", "tasks-7")
async def test_a_client_that_does_not_declare_gets_a_result_or_an_error(autojump_clock: MockClock) -> None:
    did = Journal()
    async with task_client(server(did)) as client:
        # What it declares in one request means nothing to the next.
        await client.start("server/discover").result()
        client.capabilities = {}
        assert (await plain_result(client, "work", seconds=2))["content"][0]["text"] == "worked 2 s"
        did.clear()
        exchange = client.tool("needed", seconds=0)
        error = await exchange.error()
        assert (await exchange.head(), error["code"]) == (400, -32021)
        assert error["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        assert did == []


@pytest.mark.requirement("tasks-8")
@pytest.mark.parametrize("name", ["work", "plain"])
async def test_a_client_cannot_ask_for_a_task(name: str, autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        arguments = {"seconds": 0.1} if name == "work" else {}
        params = {"name": name, "arguments": arguments, "task": {"ttl": 1, "pollInterval": 1}}
        assert (await client.start("tools/call", params).result())["resultType"] == "complete"


@pytest.mark.requirement("tasks-9")
async def test_a_task_is_found_as_soon_as_its_client_knows_of_it() -> None:
    async with task_client(server()) as client:
        for _ in range(300):
            task = await client.begin("from_the_start")
            assert (await client.state(task))["status"] in ("working", "completed")


async def test_with_after_0_no_line_of_the_handler_runs_before_there_is_a_task() -> None:
    async with task_client(server()) as client:
        task = await client.begin("from_the_start")
        assert (await client.until(task))["result"]["content"][0]["text"] == task["taskId"]


@pytest.mark.requirement("tasks-23")
async def test_a_question_before_it_is_a_task_is_a_round_of_its_request(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        asked = await client.tool("when_it_says").result()
        assert asked["resultType"] == "input_required"
        assert "taskId" not in asked
        answers = {"user_name": {"action": "accept", "content": {"name": "ann"}}}
        retry = {"name": "when_it_says", "arguments": {}, "inputResponses": answers}
        task = await client.start("tools/call", {**retry, "requestState": asked["requestState"]}).result()
        assert task["resultType"] == "task"
        assert "requestState" not in task
        ended = await client.until(task)
        assert ended["result"]["content"][0]["text"] == f"ann: None {task['taskId']} None"


@pytest.mark.requirement("tasks-24", "tasks-28")
async def test_a_client_that_leaves_takes_along_what_is_no_task_yet(autojump_clock: MockClock) -> None:
    did = Journal()
    async with task_client(server(did)) as client:
        exchange = client.tool("work", seconds=5)
        await trio.sleep(0.2)
        exchange.disconnect()
        await exchange.raw.finished.wait()
        assert did == ["began", "cancelled"]
        assert len(client.store) == 0

        did.clear()
        exchange = client.start("tools/call", {"name": "work", "arguments": {"seconds": 5}}, id=77)
        task = await exchange.result()
        exchange.disconnect()
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        params = {"requestId": 77, "_meta": client.meta()}
        headers = client.headers("notifications/cancelled", {})
        assert await client.wire.post({**cancelled, "params": params}, headers).nothing() == 202
        assert (await client.until(task))["status"] == "completed"
        assert did == ["began", "done"]


async def test_a_client_that_leaves_while_its_task_is_recorded_leaves_none_behind(autojump_clock: MockClock) -> None:
    did = Journal()
    async with task_client(server(did)) as client:
        created = client.slow_creation(3)
        exchange = client.tool("work", seconds=30)
        await trio.sleep(1)
        exchange.disconnect()
        await exchange.raw.finished.wait()
        assert did == ["began", "cancelled"]
        assert (await client.state(created[0].id))["status"] == "cancelled"


async def test_what_is_done_while_its_task_is_recorded_is_the_result_of_the_task(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        client.slow_creation(2)
        task = await client.begin("work", seconds=1)
        assert (await client.state(task))["status"] == "completed"


def held_requests() -> list[Delivery | HttpExchange]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Delivery | HttpExchange)]


async def test_nothing_of_the_request_is_held_while_its_task_runs(autojump_clock: MockClock) -> None:
    # An exception that an earlier test has kept may hold one, too.
    others = held_requests()
    async with task_client(server()) as client:
        exchange = client.tool("work", seconds=100)
        await exchange.result()
        await exchange.raw.finished.wait()
        await wait_all_tasks_blocked()
        assert [each for each in held_requests() if not any(each is other for other in others)] == []
        assert len(client.node.runs) == 1


@pytest.mark.requirement("tasks-35")
@pytest.mark.parametrize("name", ["work", "needed"])
async def test_where_no_task_can_be_kept_an_optional_one_is_an_ordinary_call(
    name: str, autojump_clock: MockClock
) -> None:
    async with task_client(server()) as client:
        client.no_creation()
        exchange = client.tool(name, seconds=2)
        if name == "work":
            assert (await exchange.result())["content"][0]["text"] == "worked 2 s"
        else:
            error = await exchange.error()
            assert (error["code"], error["message"]) == (-32603, "The server can keep no task now; try again later")
        assert running_tasks(client) == []


@pytest.mark.requirement("tasks-36")
@pytest.mark.parametrize("bound", ["per_node", "per_principal"])
async def test_beyond_the_bounds_an_optional_tool_runs_as_any_other(bound: str, autojump_clock: MockClock) -> None:
    limits = TaskLimits(**{bound: 2})
    mcp = server(limits=limits, auth=alice) if bound == "per_principal" else server(limits=limits)
    async with task_client(mcp, DECLARED) as client:
        tasks = [await client.begin("work", seconds=10) for _ in range(2)]
        assert (await plain_result(client, "work", seconds=2))["content"][0]["text"] == "worked 2 s"
        exchange = client.tool("needed", seconds=0)
        assert (await exchange.error())["code"] == -32603
        assert (await exchange.head(), exchange.headers["retry-after"]) == (503, "5")
        for task in tasks:
            assert (await client.until(task))["status"] == "completed"
        assert (await client.begin("work", seconds=10))["status"] == "working"


@pytest.mark.requirement("tasks-16")
async def test_tasks_are_cancelled_with_the_server_and_their_clients_never_told_a_lie(
    autojump_clock: MockClock,
) -> None:
    did = Journal()
    async with task_client(server(did)) as client:
        begun = await client.begin("work", seconds=100)
        store = client.store
    task = await store.get(begun["taskId"])
    assert (task.status.value, task.error and task.error.data) == ("failed", {"reason": "shutdown"})
    assert did == ["began", "cancelled"]


async def test_a_stream_that_has_begun_ends_with_the_task(autojump_clock: MockClock) -> None:
    mcp = with_tasks()

    @mcp.tool(task=True)
    async def talks(ctx: Context) -> str:
        await ctx.report_progress(1)
        await trio.sleep(3)
        await ctx.report_progress(2)
        return "done"

    async with task_client(mcp) as client:
        exchange = client.tool("talks", meta={**client.meta(), "progressToken": "p"})
        said = await exchange.messages()
        assert [message.get("method", "result") for message in said] == ["notifications/progress", "result"]
        assert said[-1]["result"]["resultType"] == "task"
        await wait_all_tasks_blocked()
        assert (await client.until(said[-1]["result"]))["status"] == "completed"
