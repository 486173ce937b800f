"""What becomes of tasks whose owner has left them, or is gone: each is decided by `transitions`, and done here.

a poll, an answer ──────────────┐
a message that one was left ────┼──▶ settle ──▶ claimed, and run here · kept for its last answer · ended
every few seconds: the lists ───┘
  of this node (an earlier process with its id), and of nodes without a card that this node looks after
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import trio

from trio_mcp.cluster.store.task_operations import AddTask, ReadTask, RemoveTask, TasksOf
from trio_mcp.cluster.tasks.owned import OwnTasks
from trio_mcp.cluster.tasks.owners import TaskOwners
from trio_mcp.cluster.tasks.reading import Found, TaskReader
from trio_mcp.observability.logs import event
from trio_mcp.tasks.changes import ChangeRefused, TakeOver
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import TaskOwner, TaskRecord
from trio_mcp.tasks.transitions import apply

__all__ = ["Succession"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")

EMPTY_SECONDS = 60.0
"""Between two looks at the empty list of a node without a card."""

_LISTED = 2_000
"""Ids of a list that are read at once: more than a node runs."""
_AT_ONCE = 50


class Succession:
    """Takes over for the process `me`, while `may_run()`; `left` is called with tasks that another node has to take."""

    def __init__(
        self,
        reader: TaskReader,
        own: OwnTasks,
        owners: TaskOwners,
        me: TaskOwner,
        limits: TaskLimits,
        now: Callable[[], int],
        *,
        may_run: Callable[[], bool],
        left: Callable[[Iterable[str]], None],
    ) -> None:
        self._reader = reader
        self._own = own
        self._owners = owners
        self._me = me
        self._limits = limits
        self._now = now
        self._may_run = may_run
        self._left = left
        self._empty: dict[str, float] = {}
        """Nodes without a card whose lists were seen empty, and when (trio clock)."""

    async def settle(self, found: Found) -> TaskRecord:
        """The task, after what has to be done where it has no owner any more. Raises TaskStoreAway."""
        task = found.task
        if task.ended or task.id in self._own:
            return task
        gone = not task.handed_over and await self._owners.is_gone(task.owner)
        try:
            after = apply(task, TakeOver(task.owner, self._me, gone), self._now(), limits=self._limits)
        except ChangeRefused:
            return task
        if after is task:
            return task
        if after.owner.boot != self._me.boot:
            return await self._record(found, after)
        if not self._may_run():
            self._left([task.id])
            return task
        return await self._claim(found, after)

    async def look(self, nodes: Iterable[str]) -> None:
        """Look at the lists of this node, and of those of `nodes` that have no card. Raises TaskStoreAway."""
        await self._look_at(self._me.node)
        for node in nodes:
            if self._owners.has_card(node):
                self._empty.pop(node, None)
            elif self._may_have_tasks(node) and self._owners.looks_after(node):
                await self._look_at(node)

    async def look_for(self, task_id: str) -> None:
        """Another node has left this task: take it, if this node is the one that looks after it. Raises TaskStoreAway."""
        if self._owners.looks_after(task_id) and task_id not in self._own:
            found = await self._reader.read(task_id)
            if found is not None:
                await self.settle(found)

    async def _record(self, found: Found, after: TaskRecord) -> TaskRecord:
        if await self._reader.replace(found, after) is None:
            return await self._as_it_stands(found)
        reason = None if after.error is None else after.error.data["reason"]
        event(
            logger,
            logging.WARNING,
            "task of a node that is gone",
            task=after.id[:8],
            tool=after.start.tool,
            gone=found.task.owner.node,
            status=after.status.value,
            reason=reason,
        )
        return after

    async def _claim(self, found: Found, after: TaskRecord) -> TaskRecord:
        # On the list first: a process that dies with the task must have it there.
        await self._reader.run([AddTask(self._me.node, after.id)])
        written = await self._reader.replace(found, after)
        if written is None:
            return await self._as_it_stands(found)
        before = found.task.owner
        event(
            logger,
            logging.INFO,
            "task taken over",
            task=after.id[:8],
            tool=after.start.tool,
            of=before.node,
            epoch=after.owner.epoch,
        )
        if self._may_run():
            self._own.take_over(after, written.revision)
        else:
            # It began to stop meanwhile. The task has not run here: any node may run it.
            self._own.hand_back(after, written.revision)
        return after

    async def _as_it_stands(self, found: Found) -> TaskRecord:
        """Another node was first."""
        again = await self._reader.read(found.task.id)
        return found.task if again is None else again.task

    async def _look_at(self, node: str) -> None:
        (listed,) = await self._reader.run([TasksOf(node, _LISTED)])
        ids = [each.decode("latin-1") for each in listed]
        unknown = [each for each in ids if each not in self._own]
        if not ids and node != self._me.node:
            self._empty[node] = trio.current_time()
        for start in range(0, len(unknown), _AT_ONCE):
            await self._look_at_some(node, unknown[start : start + _AT_ONCE])

    def _may_have_tasks(self, node: str) -> bool:
        """Not where its list was empty a moment ago: a node that stops may still have left a task to it before it knew of its end."""
        return trio.current_time() - self._empty.get(node, -math.inf) > EMPTY_SECONDS

    async def _look_at_some(self, node: str, ids: list[str]) -> None:
        done = []
        for task_id, raw in zip(ids, await self._reader.run(list(map(ReadTask, ids))), strict=True):
            found = self._reader.understood(task_id, raw) if raw else None
            if raw and found is None:
                continue
            task = None if found is None else await self.settle(found)
            if task is None or not self._runs_on(node, task):
                done.append(task_id)
        if done:
            await self._reader.run([RemoveTask(node, task_id) for task_id in done])

    def _runs_on(self, node: str, task: TaskRecord) -> bool:
        """Whether the node's list has to name the task: released ones too, until somebody has them."""
        if task.ended or task.parked or task.owner.node != node:
            return False
        # What this process does not know of its own was never answered to anybody: its creation failed.
        return task.owner.boot != self._me.boot or task.id in self._own
