"""The tasks that run in this process: a table of their copies, and the task that writes them to Redis.

own ──▶ the record here, at once ──▶ due ──▶ writer ─┬─ written: its revision is known; an ended one is forgotten here
                                       ▲             ├─ another revision stands: what clients have said there is taken in, and again
answers, heard ─▶ noted, and due ──────┤             ├─ another process' or ended: lost, the handler is cancelled
                                       └─────────────┴─ Redis away, or full: owed

The record here is the truth as long as this process owns the task. Answers are the exception: they are written before the handler
has them, for what has gone on with its answers is not run again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trio

from trio_mcp.cluster.store.measured import RETRY_SECONDS, MeasuredStore
from trio_mcp.cluster.store.port import Operation, OperationRefused, StoreDown
from trio_mcp.cluster.store.task_operations import AddTask, ReadTask, RemoveTask
from trio_mcp.cluster.tasks.copy import Standing, TaskCopy, TaskWrite
from trio_mcp.cluster.tasks.fields import TaskFields, swap
from trio_mcp.observability.logs import event
from trio_mcp.tasks.changes import AskCancel, ChangeRefused, Extend, Fail, OwnChange, Park, Progress, Refusal, Release
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import FailReason, TaskOwner, TaskRecord
from trio_mcp.tasks.store import TaskRunner, TaskStoreAway
from trio_mcp.tasks.transitions import next_ttl

__all__ = ["OwnTasks"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")

PROGRESS_SECONDS = 1.0
"""Between two writes of a task that only reports progress."""

_BATCH, _BATCH_BYTES = 200, 8 << 20
"""Tasks, and bytes of their fields, that are written at once: Redis takes a second at most."""


class OwnTasks:
    """The table of this process' tasks. `changed` is called with each record that is new here.

    `announce` is called with the ids of tasks that others may want to look at, `left` with those that another node can run now.
    """

    def __init__(
        self,
        store: MeasuredStore,
        fields: TaskFields,
        owner: TaskOwner,
        limits: TaskLimits,
        now: Callable[[], int],
        *,
        changed: Callable[[TaskRecord], None],
        announce: Callable[[Sequence[str]], None],
        left: Callable[[Sequence[str]], None],
    ) -> None:
        self.runner: TaskRunner | None = None
        self._store = store
        self._fields = fields
        self._owner = owner
        self._limits = limits
        self._now = now
        self._changed = changed
        self._announce = announce
        self._left = left
        self._tasks: dict[str, TaskCopy] = {}
        self._dirty: dict[str, TaskCopy] = {}
        self._doubted: set[str] = set()
        """Tasks that another node may have written."""
        self._off_list: list[str] = []
        """Tasks to take off this node's list."""
        self._wake = trio.Event()
        self._round_over = trio.Event()
        self._writing = False
        store.on_return(lambda: self._wake.set())

    def get(self, task_id: str) -> TaskRecord | None:
        """The record of a task that is owned here."""
        copy = self._tasks.get(task_id)
        return None if copy is None else copy.task

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._tasks

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter([copy.task for copy in self._tasks.values()])

    @property
    def revisions(self) -> dict[str, str]:
        """The revision of each task that is written as it is here."""
        return {key: copy.revision for key, copy in self._tasks.items() if copy.due == math.inf and copy.written}

    # What the store's port does with them.

    async def create(self, task: TaskRecord) -> None:
        """Write a new task, and own it. Raises TaskStoreAway."""
        write = swap(self._fields, task, None, "", self._now())
        try:
            _, written = await self._store.run([AddTask(self._owner.node, task.id), write])
        except StoreDown as down:
            raise TaskStoreAway(str(down)) from None
        if written is not True:
            raise TaskStoreAway(str(written))
        self._own(task, write.revision)

    def take_over(self, task: TaskRecord, revision: str) -> None:
        """Own a task that was claimed for this process and stands in Redis with this revision, and run it."""
        self._own(task, revision)
        self._changed(task)
        if self.runner is not None:
            self.runner.run(task)

    def hand_back(self, task: TaskRecord, revision: str) -> None:
        """Release a task that was claimed for this process, stands in Redis with this revision, and was not run."""
        self._own(task, revision)
        self.change(task.id, Release())

    def change(self, task_id: str, change: OwnChange) -> TaskRecord:
        """Change the record here, and have it written; raises ChangeRefused."""
        copy = self._tasks.get(task_id)
        if copy is None:
            raise ChangeRefused(Refusal.NOT_OWNER)
        if copy.change(change):
            self._changed(copy.task)
            self._owe(copy, copy.wrote + PROGRESS_SECONDS if isinstance(change, Progress) else -math.inf)
        return copy.task

    def leave(self, task_id: str, change: Park | Release) -> None:
        """Leave the task to other nodes; raises ChangeRefused."""
        self.change(task_id, change)
        # At once: what waits for an answer may also wait for a time, and go on by itself.
        if self.runner is not None:
            self.runner.stop(task_id)

    async def answer(self, task_id: str, responses: dict[str, Any], patience: float) -> TaskRecord:
        """Write what the client answers, and give it to the handler. Raises TaskStoreAway when that takes longer than `patience` seconds."""
        copy = self._tasks[task_id]
        if self._store.down:
            raise TaskStoreAway("Redis is away")
        new = {key: answer for key, answer in responses.items() if key in copy.task.questions}
        copy.answers = {**new, **copy.answers}
        if new:
            self._owe(copy)
        with trio.move_on_after(patience):
            while new.keys() & copy.answers.keys() and task_id in self._tasks:
                await copy.settled.wait()
            return copy.task
        raise TaskStoreAway("the answer was not written in time")

    def ask_cancel(self, task_id: str) -> TaskRecord:
        """The client asks for its end: tell the runner at once, and Redis when it answers."""
        copy = self._tasks[task_id]
        if copy.change(AskCancel()):
            self._owe(copy)
            self._tell_runner(copy)
        return copy.task

    def look(self) -> None:
        """Move the ttl of what runs on, end what has run for too long, forget what was not written before it expired."""
        now = self._now()
        for task in self:
            ttl = None if task.handed_over else next_ttl(task, now, self._limits)
            if ttl is not None:
                self.change(task.id, Extend(ttl))
            elif task.expires > now:
                continue
            elif task.ended or task.handed_over:
                self._forget(task.id)
            else:
                self.change(task.id, Fail(FailReason.EXPIRED.error))
                if self.runner is not None:
                    self.runner.lost(task.id)

    def doubt(self, task_id: str) -> bool:
        """Another node may have written the task: look at it. Whether it is owned here."""
        if task_id not in self._tasks:
            return False
        self._doubted.add(task_id)
        self._wake.set()
        return True

    async def answers_taken(self, task_id: str) -> None:
        """Look at the task, and wait until its handler has what other nodes took from its client, or it is not owned here any more."""
        self.doubt(task_id)
        while task_id in self._doubted:
            await self._round_over.wait()
        if self._writing:
            # The round that looks at it.
            await self._round_over.wait()
        copy = self._tasks.get(task_id)
        while copy is not None and copy.answers and self._tasks.get(task_id) is copy:
            await copy.settled.wait()

    async def written(self, task_id: str) -> None:
        """Wait until the task is written as it is now, or is not owned here any more."""
        copy = self._tasks.get(task_id)
        while copy is not None and copy.written is not copy.task and self._tasks.get(task_id) is copy:
            await copy.settled.wait()

    async def flushed(self) -> None:
        """Wait until nothing is owed to Redis."""
        while self._dirty or self._doubted or self._off_list or self._writing:
            await self._round_over.wait()

    async def write(self) -> None:
        """The task, until cancelled."""
        while True:
            with trio.move_on_at(min((copy.due for copy in self._dirty.values()), default=math.inf)):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._round()

    # Writing.

    def _own(self, task: TaskRecord, revision: str) -> None:
        fields, limits, now = self._fields, self._limits, self._now
        self._tasks[task.id] = TaskCopy(task, fields, limits, now, written=task, revision=revision)

    def _owe(self, copy: TaskCopy, at: float = -math.inf) -> None:
        copy.due = min(copy.due, max(at, trio.current_time()))
        self._dirty[copy.task.id] = copy
        self._wake.set()

    def _tell_runner(self, copy: TaskCopy) -> None:
        self._changed(copy.task)
        if self.runner is not None and not copy.task.ended:
            self.runner.changed(copy.task)

    async def _round(self) -> None:
        self._writing = True
        try:
            done = await self._write_due() and await self._look_at_doubted()
        finally:
            self._writing = False
            self._round_over.set()
            self._round_over = trio.Event()
        if not done:
            await trio.sleep(RETRY_SECONDS)

    async def _write_due(self) -> bool:
        """Whether Redis has taken everything."""
        writes = self._due()
        off_list, self._off_list = self._off_list, []
        operations: list[Operation] = [write.operation for _, write in writes]
        operations += [RemoveTask(self._owner.node, each) for each in off_list]
        replies = await self._run(operations)
        if replies is None:
            self._off_list += off_list
            replies = [OperationRefused("no answer")] * len(operations)
        settled = zip(writes, replies, strict=False)
        told = [copy.task.id for (copy, write), reply in settled if self._settle(copy, write, reply)]
        if told:
            self._announce(told)
        return not any(isinstance(reply, OperationRefused) for reply in replies)

    async def _run(self, operations: Sequence[Operation]) -> list[Any] | None:
        """The results; None where Redis is away."""
        if not operations:
            return []
        try:
            return await self._store.run(operations)
        except StoreDown:
            return None

    def _due(self) -> list[tuple[TaskCopy, TaskWrite]]:
        now, size = trio.current_time(), 0
        writes: list[tuple[TaskCopy, TaskWrite]] = []
        for key, copy in list(self._dirty.items()):
            if copy.due > now:
                continue
            if len(writes) == _BATCH or size > _BATCH_BYTES:
                self._wake.set()
                break
            copy.due = math.inf
            del self._dirty[key]
            writes.append((copy, copy.prepare()))
            size += writes[-1][1].size
        return writes

    def _settle(self, copy: TaskCopy, write: TaskWrite, reply: Any) -> bool:
        """Take in what became of a write; whether others may want to look at the task."""
        key = write.base.id
        if self._tasks.get(key) is not copy:
            return False
        if reply is not True:
            self._owe(copy)
            if reply is False:
                self._doubted.add(key)
            return False
        before = copy.written
        if copy.was_written(write):
            self._tell_runner(copy)
        if write.leaves_work:
            self._left([key])
        if write.snapshot.ended or write.snapshot.handed_over:
            self._forget(key)
        return before is None or before.status is not write.snapshot.status or bool(write.answers)

    def _forget(self, key: str) -> None:
        copy = self._tasks.pop(key)
        self._dirty.pop(key, None)
        self._doubted.discard(key)
        # A task that was left stays on the list, for the next process of that name.
        if not copy.task.handed_over:
            self._off_list.append(key)
        copy.wake()
        self._wake.set()

    # What others have written.

    async def _look_at_doubted(self) -> bool:
        doubted = [key for key in self._doubted if key in self._tasks]
        self._doubted.clear()
        replies = await self._run(list(map(ReadTask, doubted)))
        if replies is None:
            replies = [OperationRefused("no answer")] * len(doubted)
        for key, reply in zip(doubted, replies, strict=True):
            copy = self._tasks.get(key)
            if isinstance(reply, OperationRefused):
                self._doubted.add(key)
            elif copy is not None:
                self._take_in(copy, reply)
        # Not by what is doubted now: what was heard of meanwhile is looked at in the next round, without a pause.
        return not any(isinstance(reply, OperationRefused) for reply in replies)

    def _take_in(self, copy: TaskCopy, found: dict[bytes, bytes]) -> None:
        asked = copy.task.cancel
        match copy.take_in(found):
            case Standing.LOST:
                self._lose(copy)
            case Standing.MISSING | Standing.CHANGED:
                self._owe(copy)
        if copy.task.cancel and not asked:
            self._tell_runner(copy)

    def _lose(self, copy: TaskCopy) -> None:
        task = copy.task
        event(logger, logging.WARNING, "task lost to another node", task=task.id[:8], tool=task.start.tool)
        del self._tasks[task.id]
        self._dirty.pop(task.id, None)
        copy.wake()
        if self.runner is not None and not task.ended:
            self.runner.lost(task.id)
