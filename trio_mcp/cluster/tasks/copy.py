"""One task that this process owns: its record here, what of it stands in Redis, and what becomes of the one through the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import trio

from trio_mcp.cluster.store.task_operations import SwapTask
from trio_mcp.cluster.tasks.fields import TaskFields, Unreadable, read_head, swap
from trio_mcp.observability.logs import event
from trio_mcp.tasks.changes import Answer, AskCancel, Change, Resume
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import ENDED, TaskOwner, TaskRecord
from trio_mcp.tasks.transitions import apply

__all__ = ["Standing", "TaskCopy", "TaskWrite"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")


class Standing(Enum):
    """What was found in Redis in the place of what this process wrote last."""

    AS_WRITTEN = "as written"
    MISSING = "missing"
    """Redis has lost it."""
    CHANGED = "changed"
    """A client has said something by another node, or a write of ours stands whose reply was lost."""
    LOST = "lost"
    """It is another process', or was ended by one."""


@dataclass(frozen=True, slots=True)
class TaskWrite:
    """One write of a task: how it was when the write was prepared, and how it is when it is done."""

    base: TaskRecord
    answers: dict[str, Any]
    """What the handler gets when the write is done."""
    snapshot: TaskRecord
    operation: SwapTask

    @property
    def size(self) -> int:
        """Bytes of its fields."""
        return sum(map(len, self.operation.fields.values()))

    @property
    def leaves_work(self) -> bool:
        """Whether another node can run the task once this is written."""
        return self.snapshot.handed_over and not (self.snapshot.parked and self.snapshot.questions)


class TaskCopy:
    """A task that this process owns. `written` is what stands in Redis with `revision`; None where nothing does.

    `now` is in ms of the wall clock.
    """

    def __init__(
        self,
        task: TaskRecord,
        fields: TaskFields,
        limits: TaskLimits,
        now: Callable[[], int],
        *,
        written: TaskRecord | None = None,
        revision: str = "",
    ) -> None:
        self.task: TaskRecord = task
        self.written = written
        self.revision: str = revision
        self.due: float = math.inf
        """When it is to be written (trio clock)."""
        self.wrote: float = trio.current_time()
        """When it was written last (trio clock)."""
        self.answers: dict[str, Any] = {}
        """What the client has answered and the handler does not have: it gets them once they are written."""
        self.settled: trio.Event = trio.Event()
        """Set, and replaced, when something of it was written."""
        self._fields = fields
        self._limits = limits
        self._now = now

    def change(self, change: Change) -> bool:
        """Whether that changes the record; raises ChangeRefused."""
        before = self.task
        self.task = apply(before, change, self._now(), by=before.owner, limits=self._limits)
        return self.task is not before

    def prepare(self) -> TaskWrite:
        """The write of what the task is now, and will be when its handler has the answers that are there."""
        snapshot = self._with_answers(self.task, self.answers)
        operation = swap(self._fields, snapshot, self.written, self.revision, self._now())
        return TaskWrite(self.task, dict(self.answers), snapshot, operation)

    def was_written(self, write: TaskWrite) -> bool:
        """Take in that the write was done; whether the handler gets answers because of it."""
        self.written, self.revision, self.wrote = write.snapshot, write.operation.revision, trio.current_time()
        self.answers = {key: answer for key, answer in self.answers.items() if key not in write.answers}
        runs = not (self.task.ended or self.task.handed_over)
        if write.answers and runs:
            self.task = write.snapshot if self.task is write.base else self._with_answers(self.task, write.answers)
        self.wake()
        return bool(write.answers) and runs

    def take_in(self, found: dict[bytes, bytes]) -> Standing:
        """Note what stands in Redis; answers that came there go to `answers`, and what was asked of the task into its record."""
        if not found:
            self.written, self.revision = None, ""
            return Standing.MISSING
        revision = found.get(b"rev", b"").decode("latin-1")
        if revision == self.revision:
            return Standing.AS_WRITTEN
        try:
            standing = self._fields.read(self.task.id, found)
        except Unreadable as why:
            event(logger, logging.ERROR, "task cannot be read", task=self.task.id[:8], why=str(why))
            return self._take_back(found, revision)
        if standing.owner != self.task.owner or (standing.ended and not self._has_ended_as(standing)):
            return Standing.LOST
        self.written, self.revision = standing, revision
        self.answers |= {key: answer for key, answer in standing.answers.items() if key in self.task.questions}
        if standing.cancel:
            self.change(AskCancel())
        return Standing.CHANGED

    def _take_back(self, found: dict[bytes, bytes], revision: str) -> Standing:
        """Another node has written under a secret that this one does not have; it stays this process' task if it was only that."""
        head = read_head(found)
        if head is None or TaskOwner(head.node, head.boot, head.epoch) != self.task.owner or head.status in ENDED:
            return Standing.LOST
        self.written, self.revision = None, revision
        return Standing.CHANGED

    def wake(self) -> None:
        """Wake who waits for a write."""
        self.settled.set()
        self.settled = trio.Event()

    def _with_answers(self, task: TaskRecord, answers: dict[str, Any]) -> TaskRecord:
        if task.ended or not answers:
            return task
        answered = apply(task, Answer(answers), self._now(), limits=self._limits)
        if answered.handed_over:
            return answered
        return apply(answered, Resume(), self._now(), by=answered.owner, limits=self._limits)

    def _has_ended_as(self, standing: TaskRecord) -> bool:
        """Our own write stands, whose reply was lost."""
        return self.task.ended and (standing.status, standing.updated) == (self.task.status, self.task.updated)
