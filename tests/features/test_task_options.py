"""`task=` of a tool: what it takes, and what is refused where the tool is registered."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp import MCPServer, Task
from trio_mcp.features.task_options import TASKS


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(None, None), (90, 90.0), ("90s", 90.0), ("1.5m", 90.0), ("2h", 7_200.0), (" 1d ", 86_400.0)]
)
def test_a_ttl_is_seconds_or_text(ttl: Any, seconds: float | None) -> None:
    assert Task(ttl=ttl).ttl_seconds == seconds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "forbidden"}, "mode of Task"),
        ({"after": -1}, "after= of Task"),
        ({"after": True}, "after= of Task"),
        ({"after": "1s"}, "after= of Task"),
        ({"after": float("nan")}, "after= of Task"),
        ({"ttl": 0.5}, "ttl= of Task"),
        ({"ttl": "soon"}, "ttl= of Task"),
        ({"ttl": "1w"}, "ttl= of Task"),
        ({"ttl": True}, "ttl= of Task"),
        ({"idempotent": "yes"}, "idempotent= of Task"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task(**given)


def test_true_is_a_task_with_the_defaults_and_false_is_none() -> None:
    assert Task.of(True) == Task()
    assert Task.of(False) is None
    assert Task.of(None) is None
    assert (Task().required, Task("required").required) == (False, True)
    with pytest.raises(TypeError, match="task= of a tool is True or a Task"):
        Task.of("optional")


def test_a_tool_with_task_gives_its_server_the_extension_once() -> None:
    mcp = MCPServer("t")

    @mcp.tool(task=False)
    async def plain() -> None: ...

    assert mcp.extensions == {}

    @mcp.tool(task=True)
    async def first() -> None: ...

    extension = mcp.extensions[TASKS]

    @mcp.tool(task=Task("required"), title="Second")
    async def second() -> None: ...

    assert mcp.extensions == {TASKS: extension}
    assert mcp.registry.tools.get("first").extensions == {TASKS: Task()}  # type: ignore[union-attr]
    with pytest.raises(TypeError, match="task= of a tool is True or a Task"):
        mcp.tool(task="yes")(plain)  # type: ignore[call-overload]
