"""The store of tasks of a node in a cluster: its own in memory, all in Redis.

get, tell ─┬─ a task of this process ──▶ `owned`            answered from memory, written behind
           └─ any other ──▶ `reading` ──▶ `succession`      one read; where the owner is gone, what follows from that

bus: a task has changed, was left ──▶ its owner, its watchers, who looks after it
every BEAT_SECONDS: what the bus may have lost
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import trio

from trio_mcp.auth.keyring import Keyring
from trio_mcp.cluster.clock import now
from trio_mcp.cluster.heartbeat import LATE_SECONDS
from trio_mcp.cluster.membership import BEAT_SECONDS
from trio_mcp.cluster.record import tasks_message
from trio_mcp.cluster.store.measured import RETRY_SECONDS, MeasuredStore
from trio_mcp.cluster.store.port import Publish, StoreDown
from trio_mcp.cluster.store.task_operations import AddTask, ReadTask, TaskRevision
from trio_mcp.cluster.tasks.fields import TaskFields
from trio_mcp.cluster.tasks.owned import OwnTasks
from trio_mcp.cluster.tasks.owners import TaskOwners
from trio_mcp.cluster.tasks.reading import TaskReader
from trio_mcp.cluster.tasks.succession import Succession
from trio_mcp.tasks.changes import AskCancel, ChangeRefused, ClientChange, OwnChange, Park, Release
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import TaskOwner, TaskRecord
from trio_mcp.tasks.store import Heard, TaskRunner, TaskStoreAway, Watchers
from trio_mcp.tasks.transitions import apply

__all__ = ["ClusterTaskStore"]

WATCH_SECONDS = 1.0
"""Between two looks at watched tasks of other nodes: as often as their progress is written."""

ANSWER_SECONDS = 2.0
"""How long an answer may take to be written."""

CONFIRM_SECONDS = 1.0
"""How long a poll waits for Redis where it would otherwise be answered from memory."""

_TRIES, _APART_SECONDS = 20, 0.01
"""Attempts to write while other nodes write as well, and how far they are apart at random, times their number."""


class ClusterTaskStore:
    """Implements `TaskStore`. `may_run` says whether tasks may begin here; `clock` is in ms of the wall clock."""

    def __init__(
        self,
        store: MeasuredStore,
        owners: TaskOwners,
        keyring: Keyring,
        *,
        may_run: Callable[[], bool],
        limits: TaskLimits,
        clock: Callable[[], int],
    ) -> None:
        self.owner: TaskOwner = TaskOwner(owners.me.node, owners.me.boot)
        self.limits: TaskLimits = limits
        self.now: Callable[[], int] = clock
        self._store = store
        self._owners = owners
        fields = TaskFields(keyring)
        self._reader = TaskReader(store, fields, self.owner.node, clock)
        self._watchers = Watchers()
        self._seen: dict[str, bytes] = {}
        """The revisions of watched tasks of other nodes."""
        self._own = OwnTasks(
            store,
            fields,
            self.owner,
            self.limits,
            clock,
            changed=self._watchers.tell,
            announce=self._announce,
            left=self._leave,
        )
        self._succession = Succession(
            self._reader, self._own, owners, self.owner, self.limits, clock, may_run=may_run, left=self._leave
        )
        self._changed: dict[str, None] = {}
        self._left: dict[str, None] = {}
        self._looked = now()
        """When this process looked at its tasks last, or tried to."""
        self._tell = trio.Event()
        self._to_take: dict[str, None] = {}
        self._look_now = trio.Event()
        self._watch_now = trio.Event()

    def attach(self, runner: TaskRunner) -> None:
        """Tell `runner` from now on."""
        self._own.runner = runner

    async def work(self) -> None:
        """Write, look, watch, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._own.write)
            nursery.start_soon(self._publish)
            nursery.start_soon(self._look)
            nursery.start_soon(self._watch)

    # The port.

    async def create(self, task: TaskRecord) -> None:
        """Record a task that runs here; raises TaskStoreAway."""
        await self._own.create(task)

    async def get(self, task_id: str) -> TaskRecord | None:
        """The task; None when it is unknown or has expired. Raises TaskStoreAway."""
        if task_id in self._own:
            await self._confirm(task_id)
        own = self._own.get(task_id)
        if own is not None:
            return own if own.expires > self.now() else None
        found = await self._reader.read(task_id)
        return None if found is None else await self._succession.settle(found)

    def own(self, task_id: str, change: OwnChange) -> TaskRecord:
        """Change a task that runs here; raises ChangeRefused."""
        return self._own.change(task_id, change)

    async def tell(self, task_id: str, change: ClientChange) -> TaskRecord | None:
        """Record what the client says; raises TaskStoreAway."""
        if task_id in self._own:
            await trio.lowlevel.checkpoint()
        own = self._own.get(task_id)
        if own is None or own.handed_over:
            return await self._tell_there(task_id, change)
        if isinstance(change, AskCancel):
            return self._own.ask_cancel(task_id)
        return await self._own.answer(task_id, change.responses, ANSWER_SECONDS)

    async def leave(self, task_id: str, change: Park | Release) -> bool:
        """Leave a task that runs here to the other nodes; whether it still ran here. Returns when it is written."""
        with suppress(ChangeRefused):
            self._own.leave(task_id, change)
            await self._own.written(task_id)
            return True
        return False

    def here(self) -> list[TaskRecord]:
        """The tasks that run here."""
        return [task for task in self._own if not (task.ended or task.handed_over)]

    def watch(self, task_id: str, heard: Heard) -> Callable[[], None]:
        """Call `heard` after each change, wherever the task runs; returns what ends that."""
        self._watch_now.set()
        return self._watchers.add(task_id, heard)

    async def flushed(self) -> None:
        """Wait until nothing is owed to Redis."""
        await self._own.flushed()

    # For the cluster.

    def hear(self, changed: Sequence[str], left: Sequence[str]) -> None:
        """Another node says that tasks have changed, or that it has left them."""
        for task_id in changed:
            if not self._own.doubt(task_id) and task_id in self._watchers:
                self._watch_now.set()
        for task_id in left:
            self._to_take[task_id] = None
            self._look_now.set()

    async def _confirm(self, task_id: str) -> None:
        """Wait where what this process knows of its own task may be wrong, or may still become wrong."""
        await trio.lowlevel.checkpoint()
        if self._store.down:
            return
        with trio.move_on_after(CONFIRM_SECONDS):
            if now().since(self._looked) > LATE_SECONDS:
                # This process stood still, and another may have taken the task.
                self._own.doubt(task_id)
                await self._own.flushed()
            task = self._own.get(task_id)
            if task is not None and task.ended:
                # What a client was told must be true when this process is gone.
                await self._own.written(task_id)
            elif task is not None and task.questions:
                # Another node may have acknowledged an answer that this one has not heard of.
                await self._own.answers_taken(task_id)

    async def _tell_there(self, task_id: str, change: ClientChange) -> TaskRecord | None:
        for tried in range(_TRIES):
            await trio.sleep(random.uniform(0, tried * _APART_SECONDS))
            found = await self._reader.read(task_id)
            if found is None:
                return None
            after = apply(found.task, change, self.now(), limits=self.limits)
            written = found if after is found.task else await self._reader.replace(found, after)
            if written is not None:
                if written is not found:
                    self._watchers.tell(after)
                    self._announce([task_id])
                return await self._succession.settle(written)
        raise TaskStoreAway("Too many nodes write the task at once")

    def _announce(self, task_ids: Iterable[str]) -> None:
        self._changed.update(dict.fromkeys(task_ids))
        self._tell.set()

    def _leave(self, task_ids: Iterable[str]) -> None:
        self._left.update(dict.fromkeys(task_ids))
        if self._left:
            self._tell.set()

    async def _publish(self) -> None:
        """Tell the others. What has changed they find by themselves in `BEAT_SECONDS`; what is left is also on its heir's list."""
        while True:
            await self._tell.wait()
            self._tell = trio.Event()
            changed, left = list(self._changed), list(self._left)
            self._changed, self._left = {}, {}
            message = tasks_message(changed, left=left, boot=self.owner.boot)
            lists = [AddTask(self._owners.heir_of(task_id) or self.owner.node, task_id) for task_id in left]
            try:
                await self._store.run([*lists, Publish(message)])
            except StoreDown:
                await trio.sleep(RETRY_SECONDS)
                self._leave(left)

    async def _look(self) -> None:
        while True:
            try:
                await self._look_once()
            except TaskStoreAway:
                self._to_take.clear()
            with trio.move_on_after(BEAT_SECONDS):
                await self._look_now.wait()
            self._look_now = trio.Event()

    async def _look_once(self) -> None:
        taken, self._to_take = self._to_take, {}
        for task_id in taken:
            await self._succession.look_for(task_id)
        if taken:
            return
        self._own.look()
        self._looked = now()
        known = self._own.revisions
        for (task_id, revision), found in zip(
            known.items(), await self._reader.run(list(map(TaskRevision, known))), strict=True
        ):
            if found is None or found.decode("latin-1") != revision:
                self._own.doubt(task_id)
        await self._succession.look(self._owners.listed)

    async def _watch(self) -> None:
        while True:
            others = [task_id for task_id in self._watchers if task_id not in self._own]
            self._seen = {task_id: seen for task_id, seen in self._seen.items() if task_id in others}
            if others:
                try:
                    await self._see(others)
                except TaskStoreAway:
                    self._seen.clear()
            with trio.move_on_after(WATCH_SECONDS if others else math.inf):
                await self._watch_now.wait()
            self._watch_now = trio.Event()

    async def _see(self, task_ids: list[str]) -> None:
        revisions = await self._reader.run(list(map(TaskRevision, task_ids)))
        news = {
            task_id: revision
            for task_id, revision in zip(task_ids, revisions, strict=True)
            if revision is not None and self._seen.get(task_id) != revision
        }
        for task_id, raw in zip(news, await self._reader.run(list(map(ReadTask, news))), strict=True):
            found = self._reader.understood(task_id, raw) if raw else None
            first = task_id not in self._seen
            self._seen[task_id] = news[task_id]
            if found is not None and not first:
                self._watchers.tell(found.task)
