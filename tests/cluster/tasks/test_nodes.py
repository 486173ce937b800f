"""Whole nodes and their tasks: calls through HTTP, handlers that run, nodes that stop or die."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.nodes import Activity, InProcessCluster, Node, in_process_cluster
from tests.tasks.harness import TaskClient, virtual_clock, with_tasks
from trio_mcp import Context, MCPServer, Task
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.tasks.extension import Tasks

OVER_MEMORY = True

NO_FORM = {"type": "object", "properties": {}}


def server(name: str, activity: Activity) -> MCPServer:
    """Each tool notes where it began, and what it did there."""
    mcp = with_tasks()

    @mcp.tool(task=Task(after=0))
    async def work(seconds: float) -> str:
        activity.ran.append("began")
        await trio.sleep(seconds)
        activity.ran.append("done")
        return f"done on {name}"

    @mcp.tool(task=Task("required", after=0))
    async def must() -> str:
        activity.ran.append("began")
        return f"done on {name}"

    @mcp.tool(task=Task(after=0, idempotent=True))
    async def again(seconds: float) -> str:
        activity.ran.append("began")
        await trio.sleep(seconds)
        activity.ran.append("done")
        return f"done on {name}"

    @mcp.tool(task=Task(after=0))
    async def ask(ctx: Context) -> str:
        activity.ran.append("began")
        answer = await ctx.elicit("Well?", NO_FORM)
        activity.ran.append("done")
        return f"{answer.action} on {name}"

    return mcp


class Clients:
    """One client, which reaches any node."""

    def __init__(self, cluster: InProcessCluster) -> None:
        self.cluster = cluster

    def __getitem__(self, number: int) -> TaskClient:
        return TaskClient(self.cluster[number].wire)

    async def answered(self, number: int, task: dict[str, Any]) -> None:
        """The question of the task, by that node."""
        asked = await self[number].until(task, "input_required")
        (key,) = asked["inputRequests"]
        await self[number].update(task, **{key: {"action": "accept", "content": {}}})

    def ran(self) -> list[list[str]]:
        """What handlers did on each node."""
        return [node.activity.ran for node in self.cluster.nodes]


@asynccontextmanager
async def clients(folder: Path, count: int = 2) -> AsyncIterator[Clients]:
    """Over so many nodes."""
    async with in_process_cluster(folder, count, build=server) as cluster:
        yield Clients(cluster)


async def stop(node: Node, window: float) -> None:
    """As by SIGTERM."""
    await drain(node.app, window, cluster=node.cluster)
    await end_remaining(node.app, node.cluster)
    await node.die()


@pytest.mark.requirement("tasks-9", "tasks-31")
async def test_any_node_answers_for_a_task(tmp_path: Path) -> None:
    async with clients(tmp_path, 3) as nodes:
        task = await nodes[1].begin("ask")
        assert {(await nodes[number].state(task))["taskId"] for number in (1, 2, 3)} == {task["taskId"]}
        await nodes.answered(2, task)
        ended = await nodes[3].until(task, "completed")
        assert ended["result"]["content"][0]["text"] == "accept on node1"
        other = await nodes[1].begin("work", seconds=100)
        await nodes[3].cancel(other)
        assert (await nodes[2].until(other, "cancelled"))["status"] == "cancelled"
        assert nodes.ran() == [["began", "done", "began"], [], []]


def before_its_first_task(name: str, activity: Activity) -> MCPServer:
    """What the second node of a roll still serves."""
    return (
        server(name, activity)
        if name == "node1"
        else MCPServer("t", extensions=[Tasks(always=True, clock=virtual_clock)])
    )


async def test_a_node_without_such_tools_answers_for_tasks_where_it_was_told_to(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 2, build=before_its_first_task) as cluster:
        nodes = Clients(cluster)
        task = await nodes[1].begin("ask")
        await nodes.answered(2, task)
        ended = await nodes[2].until(task, "completed")
        assert ended["result"]["content"][0]["text"] == "accept on node1"


@pytest.mark.requirement("tasks-32")
async def test_a_killed_node_leaves_what_its_authors_said(tmp_path: Path) -> None:
    async with clients(tmp_path) as nodes:
        plain, again = await nodes[1].begin("work", seconds=5), await nodes[1].begin("again", seconds=5)
        waits = await nodes[1].begin("ask")
        await nodes[2].until(waits, "input_required")
        await nodes.cluster[1].die()
        failed = await nodes[2].until(plain, "failed")
        assert failed["error"]["data"] == {"reason": "node_gone"}
        assert "may or may not have been done" in failed["error"]["message"]
        ended = await nodes[2].until(again, "completed")
        assert ended["result"]["content"][0]["text"] == "done on node2"
        assert ended["createdAt"] == again["createdAt"]
        await nodes.answered(2, waits)
        assert (await nodes[2].until(waits, "completed"))["result"]["content"][0]["text"] == "accept on node2"
        assert nodes.ran()[1] == ["began", "done", "began", "done"]


@pytest.mark.requirement("tasks-34")
async def test_a_draining_node_parks_and_releases_and_lets_the_rest_end(tmp_path: Path) -> None:
    async with clients(tmp_path) as nodes:
        short, long = await nodes[1].begin("work", seconds=5), await nodes[1].begin("work", seconds=50)
        again, waits = await nodes[1].begin("again", seconds=50), await nodes[1].begin("ask")
        await nodes[2].until(waits, "input_required")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop, nodes.cluster[1], 25.0)
            # Its waiting task is left at once, and goes on while the node still drains.
            await trio.sleep(1)
            began = trio.current_time()
            await nodes.answered(2, waits)
            answered = await nodes[2].until(waits, "completed")
            assert trio.current_time() - began < 10
            assert answered["result"]["content"][0]["text"] == "accept on node2"
        assert (await nodes[2].until(short, "completed"))["result"]["content"][0]["text"] == "done on node1"
        failed = await nodes[2].until(long, "failed")
        assert failed["error"]["data"] == {"reason": "shutdown"}
        assert (await nodes[2].until(again, "completed"))["result"]["content"][0]["text"] == "done on node2"
        assert nodes.ran() == [["began", "began", "began", "began", "done"], ["began", "done", "began", "done"]]


@pytest.mark.requirement("tasks-34")
async def test_calls_go_to_a_ready_peer_while_a_node_drains(tmp_path: Path) -> None:
    async with clients(tmp_path) as nodes:
        task = await nodes[1].begin("work", seconds=20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop, nodes.cluster[1], 25.0)
            await trio.sleep(1)
            other = await nodes[1].begin("work", seconds=1)
            assert (await nodes[1].state(task))["status"] == "working"
            assert (await nodes[1].until(other, "completed"))["result"]["content"][0]["text"] == "done on node2"
        assert (await nodes[2].until(task, "completed"))["result"]["content"][0]["text"] == "done on node1"


async def test_tasks_may_have_a_longer_window_than_calls(tmp_path: Path) -> None:
    async with clients(tmp_path) as nodes:
        task = await nodes[1].begin("work", seconds=40)
        began = trio.current_time()
        await drain(nodes.cluster[1].app, 5.0, tasks=60.0, cluster=nodes.cluster[1].cluster)
        assert 39 < trio.current_time() - began < 45
        assert (await nodes[2].until(task, "completed"))["result"]["content"][0]["text"] == "done on node1"


@pytest.mark.requirement("tasks-34")
async def test_a_rolling_restart_loses_only_what_may_not_run_twice(tmp_path: Path) -> None:
    """Three nodes, stopped one after the other; each is polled all the time, and none says that a task is unknown."""
    async with clients(tmp_path, 4) as nodes:
        begun = []
        for number in range(48):
            name = ("work", "again", "ask")[number % 3]
            arguments = {} if name == "ask" else {"seconds": 1 + number}
            begun.append((name, number, await nodes[1 + number % 3].begin(name, **arguments)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_poll, nodes, [task for _, _, task in begun])
            for number in (1, 2, 3):
                await stop(nodes.cluster[number], 25.0)
            nursery.cancel_scope.cancel()
        for name, number, task in begun:
            if name == "ask":
                await nodes.answered(4, task)
            ended = await nodes[4].until(task)
            if name == "work" and number > 50:
                assert ended["error"]["data"] == {"reason": "shutdown"}
            elif name != "work":
                assert ended["status"] == "completed", ended
            else:
                assert ended["status"] == "completed" or ended["error"]["data"] == {"reason": "shutdown"}
        plain_ones = [ended for name, _, task in begun if name == "work" for ended in [await nodes[4].state(task)]]
        assert {ended["status"] for ended in plain_ones} == {"completed", "failed"}


async def _poll(nodes: Clients, tasks: list[dict[str, Any]]) -> None:
    while True:
        for task in tasks:
            assert (await nodes[4].state(task))["taskId"] == task["taskId"]
        await trio.sleep(4)


@pytest.mark.requirement("tasks-47")
async def test_a_poll_of_another_node_is_503_while_redis_hangs_and_found_after_that(tmp_path: Path) -> None:
    """A hanging Redis takes longer to be given up than streams are held back: the status says it all the same."""
    async with clients(tmp_path, 3) as nodes:
        task = await nodes[1].begin("work", seconds=60)
        nodes.cluster.redis.pause()
        refused = nodes[2].get(task)
        assert await refused.head() == 503
        assert "retry-after" in refused.headers
        assert (await nodes[1].state(task))["status"] == "working"
        assert await nodes[3].tool("must").head() == 503
        nodes.cluster.redis.resume()
        while await nodes[2].get(task).head() == 503:  # noqa: ASYNC110
            await trio.sleep(0.5)
        assert (await nodes[2].until(task, "completed"))["result"]["content"][0]["text"] == "done on node1"
