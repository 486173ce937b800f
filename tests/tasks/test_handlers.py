"""What a handler can do in a task, and what becomes of what it returns or raises."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tasks.harness import DECLARED, FORMS, TaskClient, task_client, with_tasks
from trio_mcp import Context, MCPServer, ProtocolError, Task, ToolError
from trio_mcp.tasks.limits import TaskLimits

FROM_START = Task(after=0)


class Name(BaseModel):
    name: str


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


async def ended(client: TaskClient, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that becomes a task at once, and wait for its end."""
    return await client.until(await client.begin(tool, **arguments))


@pytest.mark.requirement("tasks-15")
@pytest.mark.parametrize("name", ["says", "raises", "crashes", "unfit"])
async def test_a_failure_of_a_tool_is_a_result(name: str) -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def fails() -> dict[str, int]:
        match name:
            case "raises":
                raise ToolError("not today")
            case "crashes":
                raise RuntimeError("secret")
        return {"unfit": "no number"}  # type: ignore[dict-item]

    if name == "says":
        mcp.remove_tool("fails")

        @mcp.tool("fails", task=FROM_START)
        async def says() -> dict[str, Any]:
            raise ToolError("no")

    async with task_client(mcp) as client:
        task = await ended(client, "fails")
        client.capabilities = {}
        plain = (await client.tool("fails").result())["content"][0]["text"]
    assert (task["status"], task["result"]["isError"]) == ("completed", True)
    text = task["result"]["content"][0]["text"]
    assert "secret" not in text
    assert text.partition(" (ref")[0] == plain.partition(" (ref")[0]
    assert ("(ref " in text) == (name in ("crashes", "unfit"))


@pytest.mark.requirement("tasks-16")
async def test_an_error_of_the_protocol_fails_the_task() -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def fails() -> str:
        raise ProtocolError(-32603, "the disk is full", {"free": 0})

    async with task_client(mcp) as client:
        task = await ended(client, "fails")
    assert task["status"] == "failed"
    assert task["error"] == {"code": -32603, "message": "the disk is full", "data": {"free": 0}}
    assert task["statusMessage"] == "the disk is full"


@pytest.mark.requirement("tasks-17")
async def test_progress_is_the_status_message_and_nothing_is_notified(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def counts(ctx: Context) -> str:
        await ctx.report_progress(float("nan"))
        for n in range(1, 101):
            await ctx.report_progress(n, 100, f"file {n}")
            await ctx.info(f"at {n}")
        await trio.sleep(10)
        await ctx.report_progress(101)
        await trio.sleep(10)
        return "done"

    async with task_client(mcp) as client:
        for token in ({}, {"progressToken": "p"}):
            meta = {**client.meta(logLevel="debug"), **token}
            exchange = client.tool("counts", meta=meta)
            task = await exchange.result()
            assert exchange.headers["content-type"] == "application/json"
            await wait_all_tasks_blocked()
            working = await client.state(task)
            assert working["statusMessage"] == "100/100 file 100"
            assert working["lastUpdatedAt"] >= working["createdAt"]
            await trio.sleep(11)
            assert (await client.state(task))["statusMessage"] == "101"
            await client.until(task)
    said = [record for record in caplog.records if record.getMessage() == "a task says"]
    assert len(said) == 200
    assert {record.levelno for record in said} == {logging.INFO}


@pytest.mark.requirement("tasks-18")
async def test_questions_at_the_same_time_each_get_their_own_answer() -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def two(ctx: Context) -> str:
        names: dict[str, str] = {}

        async def ask(key: str) -> None:
            answer = await ctx.elicit(f"{key}?", Name, key=key)
            assert answer.data is not None
            names[key] = answer.data.name

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            nursery.start_soon(ask, "b")
        return f"{names['a']} {names['b']}"

    async with task_client(mcp) as client:
        task = await client.begin("two")
        asked = (await client.until(task, "input_required", questions=2))["inputRequests"]
        keys = {request["params"]["message"]: key for key, request in asked.items()}
        assert {request["method"] for request in asked.values()} == {"elicitation/create"}
        await client.update(task, **{keys["b?"]: accepted(name="bob", more=1)})
        await wait_all_tasks_blocked()
        left = await client.state(task)
        assert (left["status"], list(left["inputRequests"])) == ("input_required", [keys["a?"]])
        await client.update(task, **{keys["a?"]: accepted(name="ann")})
        assert (await client.until(task))["result"]["content"][0]["text"] == "ann bob"


@pytest.mark.requirement("tasks-20")
async def test_an_answer_that_does_not_fit_the_form_is_seen_by_the_tool() -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def asks(ctx: Context) -> str:
        return str(await ctx.elicit("Who?", Name))

    async with task_client(mcp) as client:
        for answer in (accepted(nam="ann"), {"action": "shrug"}, {}):
            task = await client.begin("asks")
            (key,) = (await client.until(task, "input_required"))["inputRequests"]
            await client.update(task, **{key: answer})
            result = (await client.until(task))["result"]
            assert result["isError"]
            assert "ref" not in result["content"][0]["text"]


@pytest.mark.requirement("tasks-21")
async def test_a_question_that_nobody_waits_for_is_closed(autojump_clock: MockClock) -> None:
    mcp = with_tasks()
    went_on: list[str] = []

    @mcp.tool(task=FROM_START)
    async def asks(ctx: Context) -> str:
        with trio.move_on_after(10):
            await ctx.elicit("Who?", Name, key="who")
            went_on.append("answered")
        await trio.sleep(10)
        return "nobody"

    async with task_client(mcp) as client:
        task = await client.begin("asks")
        (key,) = (await client.until(task, "input_required"))["inputRequests"]
        await trio.sleep(10)
        working = await client.state(task)
        assert (working["status"], "inputRequests" in working) == ("working", False)
        await client.update(task, **{key: accepted(name="late")})
        assert (await client.until(task))["result"]["content"][0]["text"] == "nobody"

        task = await client.begin("asks")
        (key,) = (await client.until(task, "input_required"))["inputRequests"]
        await client.cancel(task)
        await client.update(task, **{key: accepted(name="late")})
        await wait_all_tasks_blocked()
        assert (await client.state(task))["status"] == "cancelled"
    assert went_on == []


async def test_sampling_and_roots_are_questions_too() -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def curious(ctx: Context) -> str:
        said = await ctx.sample("hm?")
        roots = await ctx.list_roots()
        return f"{said.content} {roots[0].uri}"

    async with task_client(mcp) as client:
        task = await client.begin("curious")
        answers = {
            "sampling/createMessage": {"role": "assistant", "model": "m", "content": {"type": "text", "text": "ha"}},
            "roots/list": {"roots": [{"uri": "file:///a"}]},
        }
        for method, answer in answers.items():
            asked = (await client.until(task, "input_required"))["inputRequests"]
            (key,) = asked
            assert asked[key]["method"] == method
            await client.update(task, **{key: answer})
            await wait_all_tasks_blocked()
        assert "file:///a" in (await client.until(task))["result"]["content"][0]["text"]


async def test_a_task_may_not_ask_without_end() -> None:
    mcp = with_tasks(limits=TaskLimits(open_questions=2, questions=3))

    @mcp.tool(task=FROM_START)
    async def asks(ctx: Context, at_once: int) -> str:
        async with trio.open_nursery() as nursery:
            for n in range(at_once):
                nursery.start_soon(ctx.elicit, f"{n}?", Name)
        return "answered"

    async with task_client(mcp) as client:
        result = (await ended(client, "asks", at_once=3))["result"]
        assert result["isError"]
        assert "too many open questions" in result["content"][0]["text"]


@pytest.mark.requirement("tasks-46")
async def test_a_client_that_cannot_be_asked_fails_the_task_as_the_plain_call() -> None:
    mcp = with_tasks()

    @mcp.tool(task=FROM_START)
    async def asks(ctx: Context) -> str:
        return str(await ctx.elicit("Who?", Name))

    async with task_client(mcp, DECLARED) as client:
        task = await ended(client, "asks")
        client.capabilities = {}
        plain = await client.tool("asks").error()
    assert task["status"] == "failed"
    assert task["error"] == plain
    assert plain["data"] == {"requiredCapabilities": {"elicitation": {}}}


async def test_a_task_asks_no_more_once_its_answers_are_large() -> None:
    mcp = with_tasks(limits=TaskLimits(answers=10_000))

    @mcp.tool(task=FROM_START)
    async def asks(ctx: Context) -> str:
        for n in range(3):
            await ctx.elicit(f"{n}?", Name)
        return "answered"

    async with task_client(mcp) as client:
        task = await client.begin("asks")
        for _ in range(2):
            (key,) = (await client.until(task, "input_required"))["inputRequests"]
            await client.update(task, **{key: {"action": "accept", "content": {"name": "x" * 6_000}}})
            await wait_all_tasks_blocked()
        result = (await client.until(task))["result"]
        assert result["isError"]
        assert "answers" in result["content"][0]["text"]


async def test_what_tasks_hold_while_they_run_is_counted_and_given_back() -> None:
    mcp = with_tasks(limits=TaskLimits(held=30_000))

    @mcp.tool(task=Task("required", after=0))
    async def asks(ctx: Context, text: str = "") -> str:
        await ctx.elicit("?", Name)
        await trio.sleep(3)
        return "answered"

    async with task_client(mcp) as client:
        task = await client.begin("asks", text="x" * 12_000)
        (key,) = (await client.until(task, "input_required"))["inputRequests"]
        await client.update(task, **{key: {"action": "accept", "content": {"name": "x" * 12_000}}})
        await wait_all_tasks_blocked()
        full = client.tool("asks", text="x" * 12_000)
        assert (await full.error(), await full.head())[1] == 503
        await client.until(task)
        await client.begin("asks", text="x" * 12_000)


@pytest.mark.requirement("tasks-37")
async def test_a_result_that_is_too_large_or_has_no_json_fails(caplog: pytest.LogCaptureFixture) -> None:
    mcp = with_tasks(limits=TaskLimits(result=100_000))

    @mcp.tool(task=FROM_START)
    async def large(characters: int) -> str:
        return "x" * characters

    @mcp.tool(task=FROM_START)
    async def fails(characters: int) -> str:
        raise ProtocolError(-32000, "no", {"why": "x" * characters})

    @mcp.tool(task=FROM_START, structured_output=False)
    async def odd() -> Any:
        return object()

    async with task_client(mcp) as client:
        assert (await ended(client, "large", characters=10_000))["status"] == "completed"
        failed = await ended(client, "large", characters=100_000)
        assert (failed["status"], failed["error"]["data"]) == ("failed", {"reason": "result_too_large"})
        assert len((await ended(client, "fails", characters=10_000))["error"]["data"]["why"]) == 10_000
        failed = await ended(client, "fails", characters=100_000)
        assert (failed["status"], failed["error"]["data"]) == ("failed", {"reason": "result_too_large"})
        odd_one = await ended(client, "odd")
        client.capabilities = {}
        plain = await client.tool("odd").answer()
    assert [record.levelno for record in caplog.records if record.getMessage() == "task ended"].count(
        logging.WARNING
    ) == 2
    assert ("error" in plain) == (odd_one["status"] == "failed")


@pytest.mark.requirement("tasks-26")
async def test_a_sync_function_is_cancelled_at_once_and_its_thread_runs_out() -> None:
    mcp = with_tasks()
    began, gate, done = trio.Event(), threading.Event(), trio.Event()

    @mcp.tool(task=FROM_START)
    def blocks() -> str:
        trio.from_thread.run_sync(began.set)
        gate.wait(20)
        return "done"

    @mcp.tool(task=FROM_START)
    def quick() -> str:
        return "quick"

    async with task_client(mcp) as client:
        task = await client.begin("blocks")
        await began.wait()
        await client.cancel(task)
        assert (await client.until(task))["status"] == "cancelled"
        assert (await ended(client, "quick"))["result"]["content"][0]["text"] == "quick"
        gate.set()
        await wait_all_tasks_blocked()
        assert (await client.state(task))["status"] == "cancelled"
    assert not done.is_set()


async def test_a_task_has_the_context_variables_of_the_server_and_the_lifespan(autojump_clock: MockClock) -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[str]:
        yield "pool"
        order.append("lifespan left")

    mcp = with_tasks(lifespan=lifespan)

    @mcp.tool(task=FROM_START)
    async def works(ctx: Context) -> str:
        try:
            await trio.sleep_forever()
        finally:
            order.append(f"task left {ctx.lifespan_context}")

    async with task_client(mcp, FORMS) as client:
        await client.begin("works")
        await wait_all_tasks_blocked()
    assert order == ["task left pool", "lifespan left"]
