"""`trio-mcp call` of a tool that asks, or becomes a task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from trio_mcp.cli import execute
from trio_mcp.cli.asking import Asker
from trio_mcp.cli.refusals import Refused
from trio_mcp.cli.tool_calls import TaskCancelled, call_tool
from trio_mcp.http_client import HttpClientError

Printed = pytest.CaptureFixture[str]

SERVER = """
from pydantic import BaseModel
from trio_mcp import Context, MCPServer, ProtocolError, Task

mcp = MCPServer("shop")

class Order(BaseModel):
    count: int
    note: str | None = None

@mcp.tool(task=Task("required", after=0))
async def order(ctx: Context, what: str) -> str:
    await ctx.report_progress(1, 2, "asking")
    answer = await ctx.elicit(f"How many {what}?", Order)
    return f"{answer.data.count} {what}" if answer.data else answer.action

@mcp.tool
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit_url("Sign in", "https://example.com/in")
    return answer.action

@mcp.tool(task=Task(after=0))
async def fail() -> str:
    raise ProtocolError(-32000, "no stock")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(SERVER)
    return "shop.py"


class Terminal:
    """Somebody who answers prompts, then ends the input."""

    def __init__(self, *lines: str | None) -> None:
        self.lines: Iterator[str | None] = iter(lines)
        self.prompts: list[str] = []

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        line = next(self.lines, None)
        return "" if line is None else f"{line}\n"


def test_a_task_is_followed_and_its_question_asked(shop: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("3", ""))
    assert execute(["call", shop, "order", "what=pears"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "3 pears\n"
    first, *said = printed.err.splitlines()
    assert first.startswith("trio-mcp: this is a task now: ")
    # Its progress may be seen before it asks.
    before = said[said.index("How many pears?") - 1]
    assert before in ("trio-mcp: working: 1/2 asking", "trio-mcp: input_required: 1/2 asking")
    assert "  Count (integer):   Note (string, optional): " in printed.err


def test_a_question_of_an_ordinary_call_is_asked(shop: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    for line, action in (("y", "accept"), ("", "decline"), (None, "cancel")):
        monkeypatch.setattr("sys.stdin", Terminal(line))
        assert execute(["call", shop, "ask"]) == 0
        printed = capsys.readouterr()
        assert printed.out == f"{action}\n"
        assert "https://example.com/in" in printed.err


def test_off_a_terminal_nobody_can_be_asked(shop: str, capsys: Printed) -> None:
    told = "(-32021). The tool asks for something, and `call` asks on a terminal only\n"
    for words in (["ask"], ["order", "what=pears"]):
        assert execute(["call", shop, *words]) == 1
        assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize(
    ("tool", "told"),
    [("thinks", "`call` has no sampling"), ("looks", "`call` has no roots: a test has, by trio_mcp.testing.connect")],
)
def test_what_call_has_not_is_where_to_be_had(tmp_path: Path, capsys: Printed, tool: str, told: str) -> None:
    (tmp_path / "needs.py").write_text(
        "from trio_mcp import Context, MCPServer\nmcp = MCPServer('needs')\n"
        "@mcp.tool\nasync def thinks(ctx: Context) -> str:\n    return str(await ctx.sample('?'))\n"
        "@mcp.tool\nasync def looks(ctx: Context) -> str:\n    return str(await ctx.list_roots())\n"
    )
    assert execute(["call", str(tmp_path / "needs.py"), tool]) == 1
    assert told in capsys.readouterr().err


def test_the_error_of_a_task_is_that_of_the_call(shop: str, capsys: Printed) -> None:
    assert execute(["call", shop, "fail"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "trio-mcp: no stock (-32000)"


class FakeClient:
    """Gives what a test wrote down, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = iter(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.declared: dict[str, Any] = {}

    def declare(self, capabilities: dict[str, Any]) -> None:
        self.declared = capabilities

    async def call_tool(self, tool: Any, arguments: Any, retry: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.request("tools/call", retry or {})

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((method, params))
        answer = next(self.answers)
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)


def working(**more: Any) -> dict[str, Any]:
    return {"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 2_000, **more}


async def called(client: FakeClient, asker: Asker | None = None) -> dict[str, Any]:
    return await call_tool(client, {"name": "x"}, {}, asker=asker)  # type: ignore[arg-type]


async def test_ctrl_c_cancels_the_task(capsys: Printed, autojump_clock: MockClock) -> None:
    client = FakeClient(working(), KeyboardInterrupt(), {})
    with pytest.raises(KeyboardInterrupt):
        await called(client)
    assert [method for method, _ in client.asked] == ["tools/call", "tasks/get", "tasks/cancel"]
    assert capsys.readouterr().err.endswith("trio-mcp: task t is to be cancelled\n")


async def test_each_message_is_a_line_and_each_question_is_asked_once(
    capsys: Printed, autojump_clock: MockClock
) -> None:
    request = {"method": "elicitation/create", "params": {"message": "Go?", "requestedSchema": {"properties": {}}}}
    waits = working(status="input_required", inputRequests={"k": request})
    done = working(status="completed", result={"content": []})
    client = FakeClient(working(statusMessage="a"), working(statusMessage="a"), waits, {}, waits, done)
    assert await called(client, Asker(lambda _: "")) == {"content": []}
    assert capsys.readouterr().err.splitlines()[1:] == ["trio-mcp: working: a"]
    updates = [params for method, params in client.asked if method == "tasks/update"]
    assert updates == [{"taskId": "t", "inputResponses": {"k": {"action": "accept", "content": {}}}}]
    assert client.declared["extensions"] == {"io.modelcontextprotocol/tasks": {}}
    assert "elicitation" in client.declared


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"status": "cancelled"}, TaskCancelled),
        ({"status": "failed", "error": {"code": 1, "message": "m"}}, Refused),
        ({"status": "failed"}, HttpClientError),
    ],
)
async def test_other_ends_are_errors(end: dict[str, Any], error: type[Exception], autojump_clock: MockClock) -> None:
    for answers in ([working(), working(**end)], [working(status=end["status"]), working(**end)]):
        with pytest.raises(error):
            await called(FakeClient(*answers))


async def test_what_is_no_question_for_people_is_cancelled() -> None:
    asker = Asker(lambda _: "1")
    requests = {"s": {"method": "sampling/createMessage", "params": {}}, "x": None}
    assert await asker.answer(requests) == {"s": {"action": "cancel"}, "x": {"action": "cancel"}}
