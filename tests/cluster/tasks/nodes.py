"""Nodes of a cluster whose tasks are run by `NotingRunner`s: what stores tell their runners is what is tested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.nodes import InProcessCluster, Node, in_process_cluster
from tests.rig.waiting import until
from tests.tasks.runner import HOUR, QUESTION, NotingRunner, task_of
from trio_mcp.cluster.tasks.store import ClusterTaskStore
from trio_mcp.tasks.changes import Ask, Park
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.memory import wall_clock
from trio_mcp.tasks.record import Status, TaskRecord

__all__ = ["TaskNode", "TaskNodes", "seen", "task_nodes"]


class TaskNode:
    """One node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.store: ClusterTaskStore = node.cluster.open_tasks(TaskLimits(), wall_clock)
        self.runner = NotingRunner()
        self.store.attach(self.runner)
        node._nursery.start_soon(self.store.work)

    async def task(self, *, idempotent: bool = False, ttl: int = HOUR, age: int = 0) -> TaskRecord:
        """A new one, which began `age` ms ago."""
        task = task_of(self.store.owner, wall_clock() - age, idempotent=idempotent, ttl=ttl)
        await self.store.create(task)
        return task

    async def leaves_waiting(self) -> TaskRecord:
        """A new one that waits for the answer to the question `a`; this node has parked it, and is dead."""
        task = await self.task()
        self.store.own(task.id, Ask("a", QUESTION))
        await self.store.leave(task.id, Park())
        await self.node.die()
        return task

    async def is_told(self, *told: tuple[str, str]) -> None:
        """The runner hears exactly this, sooner or later."""

        async def enough() -> bool:
            return len(self.runner.told) >= len(told)

        await until(enough, f"{self.node.name} is told {told}")
        assert self.runner.told == list(told)

    async def flushed(self) -> None:
        """Redis has all that it is owed."""
        await self.store.flushed()


class TaskNodes:
    """All of them; the first is 1."""

    def __init__(self, cluster: InProcessCluster) -> None:
        self.cluster = cluster
        self.nodes = [TaskNode(node) for node in cluster.nodes]

    def __getitem__(self, number: int) -> TaskNode:
        return self.nodes[number - 1]


@asynccontextmanager
async def task_nodes(folder: Path, count: int = 2, **options: Any) -> AsyncIterator[TaskNodes]:
    """As `in_process_cluster`."""
    async with in_process_cluster(folder, count, **options) as cluster:
        yield TaskNodes(cluster)


async def seen(node: TaskNode, task_id: str, status: Status) -> TaskRecord:
    """The task, once that node says that it has this status."""

    async def found() -> TaskRecord | None:
        task = await node.store.get(task_id)
        assert task is not None
        return task if task.status is status else None

    task = await until(found, f"the task is {status}")
    assert task is not None
    return task
