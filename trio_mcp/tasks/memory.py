"""The store of a single node: records in this process' memory, which end with it."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import trio
from msgspec.structs import replace

from trio_mcp.tasks.changes import (
    AskCancel,
    Change,
    ChangeRefused,
    ClientChange,
    Extend,
    Fail,
    OwnChange,
    Park,
    Refusal,
    Release,
    Resume,
)
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import FailReason, TaskOwner, TaskRecord, TaskStart
from trio_mcp.tasks.store import Heard, TaskRunner, TaskStoreAway, Watchers
from trio_mcp.tasks.transitions import apply, next_ttl

__all__ = ["LOOK_SECONDS", "MemoryTaskStore", "wall_clock"]

LOOK_SECONDS = 5.0
"""Between two looks at what has expired: as often as the nodes of a cluster look."""

_RECORD_BYTES = 1024
"""What the record of an ended task takes in memory besides what its tool has said (measured)."""


def wall_clock() -> int:
    """Milliseconds of the wall clock."""
    return time.time_ns() // 1_000_000


class MemoryTaskStore:
    """Implements `TaskStore`. `clock` is in ms of the wall clock."""

    def __init__(
        self, node: str, boot: str, *, limits: TaskLimits | None = None, clock: Callable[[], int] = wall_clock
    ) -> None:
        self.owner: TaskOwner = TaskOwner(node, boot)
        self.limits: TaskLimits = limits or TaskLimits()
        self.now: Callable[[], int] = clock
        self._records: dict[str, TaskRecord] = {}
        self._kept = 0
        """Bytes of ended tasks."""
        self._watchers = Watchers()
        self._runner: TaskRunner | None = None

    def attach(self, runner: TaskRunner) -> None:
        """Tell `runner` from now on."""
        self._runner = runner

    async def work(self) -> None:
        """Every few seconds, forget what has expired and move the ttl of what runs on, until cancelled."""
        while True:
            self.look()
            await trio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Forget ended tasks that have expired; end, or give more time to, those that run."""
        now = self.now()
        for task in list(self._records.values()):
            ttl = next_ttl(task, now, self.limits)
            if ttl is not None:
                self._change(task, Extend(ttl))
            elif task.expires <= now and task.ended:
                del self._records[task.id]
                self._kept -= _size(task)
            elif task.expires <= now:
                self._change(task, Fail(FailReason.EXPIRED.error))
                if self._runner is not None:
                    self._runner.lost(task.id)

    async def create(self, task: TaskRecord) -> None:
        """Keep the record; raises TaskStoreAway where the results of others take all the room there is."""
        await trio.lowlevel.checkpoint()
        if self._kept >= self.limits.kept:
            raise TaskStoreAway("too many results are kept: they expire with their tasks")
        self._records[task.id] = task

    async def get(self, task_id: str) -> TaskRecord | None:
        """The task; None when it is unknown or has expired."""
        await trio.lowlevel.checkpoint()
        return self._found(task_id)

    def own(self, task_id: str, change: OwnChange) -> TaskRecord:
        """Change a task that runs here; raises ChangeRefused."""
        task = self._records.get(task_id)
        if task is None:
            raise ChangeRefused(Refusal.NOT_OWNER)
        return self._change(task, change)

    async def tell(self, task_id: str, change: ClientChange) -> TaskRecord | None:
        """Record what the client says, and tell the runner."""
        await trio.lowlevel.checkpoint()
        task = self._found(task_id)
        if task is None:
            return None
        told = self._change(task, change)
        if told is task or told.ended:
            return told
        if not isinstance(change, AskCancel):
            told = self._change(told, Resume())
        if self._runner is not None:
            self._runner.changed(told)
        return told

    async def leave(self, task_id: str, change: Park | Release) -> bool:
        """There is nobody to leave it to."""
        await trio.lowlevel.checkpoint()
        return False

    def here(self) -> list[TaskRecord]:
        """The tasks that have not ended: all of them run here."""
        return [task for task in self._records.values() if not task.ended]

    def watch(self, task_id: str, heard: Heard) -> Callable[[], None]:
        """Call `heard` after each change of the task; returns what ends that."""
        return self._watchers.add(task_id, heard)

    async def flushed(self) -> None:
        """Nothing is ever owed."""
        await trio.lowlevel.checkpoint()

    def __len__(self) -> int:
        return len(self._records)

    def _found(self, task_id: str) -> TaskRecord | None:
        task = self._records.get(task_id)
        return None if task is None or task.expires <= self.now() else task

    def _change(self, task: TaskRecord, change: Change) -> TaskRecord:
        changed = apply(task, change, self.now(), by=task.owner, limits=self.limits)
        if changed.ended and changed is not task:
            # What a run begins with may be as large as a request, and there will be no other run.
            changed = replace(changed, start=TaskStart(tool=task.start.tool, arguments={}, version=""))
            self._kept += _size(changed)
        if changed is not task:
            self._records[task.id] = changed
            self._watchers.tell(changed)
        return changed


def _size(task: TaskRecord) -> int:
    """Bytes that an ended task is counted with."""
    return _RECORD_BYTES + len(task.result or b"") + (0 if task.error is None else len(msgspec.json.encode(task.error)))
