"""The example of docs/tasks.md does what the page says."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from tests.tasks.harness import TaskClient, task_client
from tests.test_readme import REPOSITORY, python_of
from trio_mcp import MCPServer
from trio_mcp.tasks import TaskLimits, Tasks

PAGE = REPOSITORY / "docs" / "tasks.md"


@pytest.fixture
def mcp() -> MCPServer:
    page: dict[str, Any] = {}
    exec(compile(python_of(PAGE), str(PAGE), "exec"), page)
    server = page["mcp"]
    assert isinstance(server, MCPServer)
    return server


async def test_the_index_is_published_if_somebody_says_so(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with task_client(mcp) as client:
        task = await client.begin("reindex")
        asked = await client.until(task, "input_required")
        assert asked["statusMessage"] == "40/40 page39.txt"
        (key,) = asked["inputRequests"]
        await client.update(task, **{key: {"action": "accept", "content": {"yes": True}}})
        assert (await client.until(task))["result"]["content"][0]["text"] == "published"


async def test_a_backup_is_a_task_or_nothing(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with task_client(mcp) as client:
        task = await client.begin("back_up")
        assert task["ttlMs"] == 86_400_000
        other = TaskClient(client.wire, {})
        assert (await other.tool("back_up").error())["code"] == -32021


async def test_bounds_are_set_as_the_page_says() -> None:
    mcp = MCPServer("site", extensions=[Tasks(limits=TaskLimits(per_node=7))])

    @mcp.tool(task=True)
    async def work() -> None: ...

    async with task_client(mcp) as client:
        assert client.store.limits.per_node == 7
    assert "MCPServer(extensions=[Tasks(limits=TaskLimits(per_node=100))])" in PAGE.read_text()


def test_the_package_has_these_names_and_no_other() -> None:
    import trio_mcp.tasks

    assert {"TaskLimits", "Tasks"} <= set(dir(trio_mcp.tasks))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = trio_mcp.tasks.Nothing
