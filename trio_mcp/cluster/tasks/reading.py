"""Tasks in Redis, whoever owns them: reading one, and writing it where nobody else has written it since."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import HasCard, Operation, OperationRefused, StoreDown
from trio_mcp.cluster.store.task_operations import ReadTask
from trio_mcp.cluster.tasks.fields import TaskFields, Unreadable, swap
from trio_mcp.observability.logs import event
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskStoreAway

__all__ = ["Found", "TaskReader"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")


_MAX_WARNED = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """A task as it stands in Redis, and the revision that a write has to name."""

    task: TaskRecord
    revision: str


class TaskReader:
    """Reads for the node `node`; `now` is in ms of the wall clock."""

    def __init__(self, store: MeasuredStore, fields: TaskFields, node: str, now: Callable[[], int]) -> None:
        self._store = store
        self._trust = store.trust
        self._fields = fields
        self._node = node
        self._now = now
        self._warned: set[str] = set()
        """Tasks that could not be read here, each of which was logged."""

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """The results; raises TaskStoreAway, also where Redis refuses one of them."""
        if self._store.down:
            raise TaskStoreAway("Redis is away")
        try:
            replies = await self._store.run(operations)
        except StoreDown as down:
            raise TaskStoreAway(str(down)) from None
        for reply in replies:
            if isinstance(reply, OperationRefused):
                raise TaskStoreAway(str(reply))
        return replies

    async def read(self, task_id: str) -> Found | None:
        """The task; None where that proves that there is none, or it has expired. Raises TaskStoreAway."""
        raw, card_stands = await self.run([ReadTask(task_id), HasCard(self._node)])
        if not raw:
            await self._prove_missing(card_stands=bool(card_stands))
            return None
        found = self.understood(task_id, raw)
        if found is None:
            raise TaskStoreAway("The task cannot be read on this node")
        return found if found.task.expires > self._now() else None

    def understood(self, task_id: str, raw: dict[bytes, bytes]) -> Found | None:
        """What was read; None, and a line in the log, where this node cannot read it."""
        try:
            return Found(self._fields.read(task_id, raw), raw.get(b"rev", b"").decode("latin-1"))
        except Unreadable as why:
            self._warn(task_id, str(why))
            return None

    async def replace(self, found: Found, task: TaskRecord) -> Found | None:
        """Write `task` in the place of what was found; None where another write came before. Raises TaskStoreAway."""
        write = swap(self._fields, task, found.task, found.revision, self._now())
        (written,) = await self.run([write])
        return Found(task, write.revision) if written is True else None

    def _warn(self, task_id: str, why: str) -> None:
        """Once for each task: it is looked at again and again."""
        if task_id in self._warned:
            return
        if len(self._warned) >= _MAX_WARNED:
            self._warned.clear()
        self._warned.add(task_id)
        advice = "give all nodes the same TRIO_MCP_SECRET, and both while it is changed"
        event(logger, logging.ERROR, "task cannot be read", task=task_id[:8], why=why, advice=advice)

    async def _prove_missing(self, *, card_stands: bool) -> None:
        """Raises TaskStoreAway where Redis has lost data, and the nodes have not yet written their tasks again."""
        if self._trust.has_lost_data(card_stands=card_stands):
            raise TaskStoreAway("Redis has lost data")
        async with self._trust.beat:
            # A beat that is under way may have put our card up again, and not have its reply yet: only that says that it was missing.
            pass
        if not self._trust.is_refilled:
            raise TaskStoreAway("Redis has lost data a moment ago")
