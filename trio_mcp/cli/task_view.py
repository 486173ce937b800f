"""The tasks that Redis has, as operators see them: what is stored in the clear, and the end of one of them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from trio_mcp.cli.cluster_view import BATCH, END_SECONDS, LOOK_SECONDS, MAX_STEPS, ClusterView
from trio_mcp.cluster.record import tasks_message
from trio_mcp.cluster.store.port import Publish
from trio_mcp.cluster.store.task_operations import FindTasks, ReadTask, SwapTask
from trio_mcp.cluster.tasks.fields import KEPT_AFTER_MS, Head, read_head
from trio_mcp.tasks.record import ENDED

__all__ = ["FoundTasks", "StoredTask", "TaskView"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task; `head` is None where its key holds something that is no task of this version of trio-mcp."""

    id: str
    head: Head | None
    revision: str = ""

    @property
    def ended(self) -> bool:
        """Whether its status can no longer change."""
        return self.head is not None and self.head.status in ENDED

    def as_json(self, label: str, now: float) -> dict[str, Any]:
        """What `--json` says of it; `now` is in seconds on the wall clock."""
        head = self.head
        if head is None:
            return {"task": label, "tool": None, "node": None, "status": "no task", "notes": []}
        return {
            "task": label,
            "tool": head.tool,
            "node": head.node,
            "status": head.status.value,
            "age_seconds": max(0, round(now - head.created / 1000)),
            "expires_seconds": max(0, round(head.expires / 1000 - now)),
            "attempts": head.attempts,
            "taken_over": head.epoch,
            "open_questions": head.open,
            "notes": [name for name in ("idempotent", "parked", "released", "cancel") if getattr(head, name)],
            "reason": head.reason or None,
        }


@dataclass(frozen=True, slots=True)
class FoundTasks:
    """Tasks; not `complete` when there are more than the limit."""

    tasks: list[StoredTask]
    complete: bool


class TaskView:
    """Reads and ends tasks; every method raises RedisUnavailable."""

    def __init__(self, cluster: ClusterView) -> None:
        self._cluster = cluster

    async def tasks(self, limit: int, beginning: str = "") -> FoundTasks:
        """Tasks whose ids begin with that, `limit` of them at most."""
        if beginning and not _NAME.fullmatch(beginning):
            return FoundTasks([], complete=True)
        found: dict[str, StoredTask] = {}
        cursor = b"0"
        for _ in range(MAX_STEPS):
            ((cursor, ids),) = await self._cluster.ask([FindTasks(cursor, f"{beginning}*", BATCH)])
            found |= {task.id: task for task in await self._read(ids)}
            if cursor == b"0" or len(found) > limit:
                return FoundTasks(list(found.values())[:limit], complete=len(found) <= limit)
        return FoundTasks(list(found.values()), complete=False)

    async def end(self, task: StoredTask) -> bool:
        """Ask for the task's end, and wait `END_SECONDS` at most; whether it has ended."""
        for _ in range(_TRIES):
            found = await self._read([task.id])
            if not found or found[0].ended or await self._ask_for_end(found[0]):
                break
        with trio.move_on_after(END_SECONDS):
            while (left := await self._read([task.id])) and not left[0].ended:  # noqa: ASYNC110  another process does it
                await trio.sleep(LOOK_SECONDS)
            return True
        return False

    async def _ask_for_end(self, task: StoredTask) -> bool:
        """Mark it as a client's `tasks/cancel` would, and tell its node, or who looks after it."""
        if task.head is None:
            return False
        head = msgspec.json.encode(replace(task.head, cancel=True))
        left = max(1, task.head.expires - round(time.time() * 1000) + KEPT_AFTER_MS)
        revision = f"end-{time.time_ns():x}"
        (written, _) = await self._cluster.ask(
            [
                SwapTask(task.id, task.revision, revision, {"head": head}, left),
                Publish(tasks_message([task.id], left=[task.id])),
            ]
        )
        return bool(written)

    async def _read(self, ids: list[str]) -> list[StoredTask]:
        values = await self._cluster.try_each([ReadTask(each) for each in ids])
        return [
            StoredTask(each, read_head(value), value.get(b"rev", b"").decode("latin-1"))
            if isinstance(value, dict)
            else StoredTask(each, None)
            for each, value in zip(ids, values, strict=True)
            if value
        ]
