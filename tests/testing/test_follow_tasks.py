"""Tests of tools with `task=`: the official client follows what becomes a task."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest
import trio
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from trio.testing import MockClock

from trio_mcp import Context, MCPServer, ProtocolError, Task
from trio_mcp.testing import FollowTasks, connect

mcp = MCPServer("t")


class Consent(BaseModel):
    ok: bool


@mcp.tool(task=True)
async def work(ctx: Context, seconds: float, ask: bool = False) -> str:
    await ctx.report_progress(1, 2)
    await trio.sleep(seconds)
    await ctx.report_progress(2, 2, "nearly")
    if ask:
        answer = await ctx.elicit("Go on?", Consent)
        return answer.action
    return "plain" if ctx.task_id is None else "task"


@mcp.tool(task=Task("required", after=0))
async def fails() -> str:
    raise ProtocolError(-32000, "no", {"why": 1})


def text(result: types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))


@pytest.mark.requirement("tasks-45")
async def test_a_call_that_becomes_a_task_returns_its_result(autojump_clock: MockClock) -> None:
    follow = FollowTasks()
    async with connect(mcp, extensions=[follow]) as client:
        assert text(await client.call_tool("work", {"seconds": 0})) == "plain"
        assert follow.states == []
        assert text(await client.call_tool("work", {"seconds": 3})) == "task"
    assert [state["status"] for state in follow.states][-1] == "completed"
    assert {state["status"] for state in follow.states} == {"working", "completed"}
    assert follow.states[-1]["statusMessage"] == "2/2 nearly"


async def test_questions_of_a_task_are_answered_by_the_test(autojump_clock: MockClock) -> None:
    asked: list[tuple[str, str]] = []

    async def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
        asked.append((method, params["message"]))
        return {"action": "accept", "content": {"ok": True}}

    async def never(*_: Any) -> types.ElicitResult:
        raise AssertionError("asked before it was a task")

    async with connect(mcp, extensions=[FollowTasks(answer)], elicitation_callback=never) as client:
        assert text(await client.call_tool("work", {"seconds": 3, "ask": True})) == "accept"
    assert asked == [("elicitation/create", "Go on?")]


@pytest.mark.parametrize("seconds", [0, 3], ids=["before it is a task", "of a task"])
async def test_a_test_that_can_answer_needs_no_other_callback(seconds: float, autojump_clock: MockClock) -> None:
    """As docs/tasks.md has it. Without a callback the client did not declare that it can be asked, and the call failed."""
    asked: list[str] = []

    async def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
        asked.append(f"{method}: {params['message']}")
        return {"action": "decline"}

    async with connect(mcp, extensions=[FollowTasks(answer)]) as client:
        assert text(await client.call_tool("work", {"seconds": seconds, "ask": True})) == "decline"
    assert asked == ["elicitation/create: Go on?"]


async def test_a_task_that_fails_raises_its_error(autojump_clock: MockClock) -> None:
    async with connect(mcp, extensions=[FollowTasks()]) as client:
        with pytest.raises(MCPError, match="no") as caught:
            await client.call_tool("fails", {})
        assert (caught.value.error.code, caught.value.error.data) == (-32000, {"why": 1})
    async with connect(mcp) as client:
        with pytest.raises(MCPError, match=r"io\.modelcontextprotocol/tasks"):
            await client.call_tool("fails", {})
