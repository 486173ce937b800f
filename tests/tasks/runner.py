"""A runner that notes what a store tells it, and tasks to give to stores."""

from __future__ import annotations

from trio_mcp.tasks.record import Question, TaskOwner, TaskRecord, TaskStart, new_task

__all__ = ["HOUR", "QUESTION", "YES", "NotingRunner", "WallClock", "task_of"]

HOUR = 3_600_000
QUESTION = Question("elicitation/create", {"message": "Go on?"})
YES = {"action": "accept", "content": {}}


class NotingRunner:
    """Implements `TaskRunner`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.tasks: dict[str, TaskRecord] = {}

    def changed(self, task: TaskRecord) -> None:
        self._note("changed", task)

    def run(self, task: TaskRecord) -> None:
        self._note("run", task)

    def lost(self, task_id: str) -> None:
        self.told.append(("lost", task_id))

    def stop(self, task_id: str) -> None:
        self.told.append(("stop", task_id))

    def _note(self, what: str, task: TaskRecord) -> None:
        self.told.append((what, task.id))
        self.tasks[task.id] = task


class WallClock:
    """Milliseconds that tests move on."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def task_of(owner: TaskOwner, now: int, *, idempotent: bool = False, ttl: int = HOUR, subject: str = "") -> TaskRecord:
    """A task that begins now."""
    start = TaskStart(tool="count", arguments={"to": 3}, version="2026-07-28", subject=subject)
    return new_task(start, owner, now, ttl=ttl, idempotent=idempotent)
