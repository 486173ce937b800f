"""The task that writes this node's session records and tombstones to Redis.

put ──┐                       ┌─ written: requests that waited for it go on, after 250 ms in any case
      ├▶ pending ─▶ writer ───┤  one pipeline for everything that is pending
owe ──┘      ▲                └─ Redis away: tombstones stay pending; records are compared anew when it is back
             └───────────────────┘
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from trio_mcp.cluster.record import Record, Tombstone
from trio_mcp.cluster.store.measured import RETRY_SECONDS, MeasuredStore
from trio_mcp.cluster.store.port import EndSession, OpenRecord, Operation, OperationRefused, OwnRecord, StoreDown
from trio_mcp.observability.metrics import Metrics

__all__ = ["RecordWriter"]

GROUP_SECONDS = 0.25
"""How long an `initialize` waits for the record: with it, other nodes can relay the session's very first request."""

MAX_OWED = 10_000
"""Tombstones that wait for Redis. Past it the oldest is dropped and counted, and its record expires by its TTL."""

_TOMBSTONES_AT_ONCE = 500


@dataclass(slots=True)
class _Write:
    """A record to write; `compare` it with the one in Redis if another node may know the session."""

    record: Record
    compare: bool

    def operation(self, session_id: str) -> OpenRecord | OwnRecord:
        return (OwnRecord if self.compare else OpenRecord)(session_id, self.record)


class RecordWriter:
    """Writes for the process `boot`.

    `not_ours` is called with the id of a session whose record turns out to be another node's, or that has ended. With `tell_ends` all
    nodes are told of each end, for they may keep a backup of the session's record.
    """

    def __init__(
        self,
        store: MeasuredStore,
        boot: str,
        metrics: Metrics,
        *,
        tell_ends: bool,
        not_ours: Callable[[str], None],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._ends_by = "" if tell_ends else boot
        self._not_ours = not_ours
        self.order: trio.Lock = trio.Lock()
        """Held while records of ours are being written: of two pipelines on two connections the earlier may arrive last."""
        self._writes: dict[str, _Write] = {}
        self._owed: OrderedDict[str, Tombstone] = OrderedDict()
        self._wake = trio.Event()
        self._group: trio.Event | None = None
        self._groups: deque[tuple[float, trio.Event]] = deque()
        self._grouped = trio.Event()
        self._writing = False
        self._refused = False
        """Redis refused something in the last round, and may accept it later."""
        self._round_over = trio.Event()
        store.on_return(lambda: self._wake.set())
        metrics.count_owed_with(lambda: len(self._owed))

    def put(self, session_id: str, record: Record, *, opens: bool) -> None:
        """Write the record, in place of one of that session that is still pending.

        With `opens` it is the session's first: no other node can know the session, so nothing has to be compared.
        """
        waiting = self._writes.get(session_id)
        unknown = opens or (waiting is not None and not waiting.compare)
        self._writes[session_id] = _Write(record, compare=not unknown)
        self._wake.set()

    def withdraw(self, session_id: str) -> None:
        """Do not write a record that is still pending."""
        self._writes.pop(session_id, None)

    def owe(self, session_id: str, tombstone: Tombstone) -> None:
        """Put the tombstone in the place of the record, if that is of the same life; tried until Redis has answered."""
        self._owed[session_id] = tombstone
        if len(self._owed) > MAX_OWED:
            self._owed.popitem(last=False)
            self._metrics.owed_forgotten()
        self._wake.set()

    async def written(self) -> None:
        """Wait until the next pipeline was written, `GROUP_SECONDS` at most.

        All who wait for the same pipeline share one event and one timer, for a timer each would cost more.
        """
        if self._group is None:
            self._group = trio.Event()
            self._groups.append((trio.current_time() + GROUP_SECONDS, self._group))
            self._grouped.set()
        await self._group.wait()

    async def flushed(self) -> None:
        """Wait until nothing is pending."""
        while self._writes or self._owed or self._writing:
            await self._round_over.wait()

    async def write(self) -> None:
        """The task, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._time_out_groups)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._writes or self._owed:
                    self._wake = trio.Event()
                    await self._round()

    async def _time_out_groups(self) -> None:
        """The timer: whoever has waited for `GROUP_SECONDS` goes on without their record."""
        while True:
            await self._grouped.wait()
            self._grouped = trio.Event()
            while self._groups:
                deadline, group = self._groups[0]
                if not group.is_set():
                    await trio.sleep_until(deadline)
                    group.set()
                self._groups.popleft()

    async def _round(self) -> None:
        self._writing = True
        try:
            async with self.order:
                await self._write_some()
        finally:
            self._writing = False
        self._round_over.set()
        self._round_over = trio.Event()
        if self._store.down:
            await trio.sleep(RETRY_SECONDS)
        elif self._refused:
            # It would refuse the same again at once; only what is new is tried before a second has passed.
            with trio.move_on_after(RETRY_SECONDS):
                await self._wake.wait()

    async def _write_some(self) -> None:
        # Without a checkpoint in between: who joins the next group has a record in the next pipeline.
        group, self._group = self._group, None
        writes, self._writes = self._writes, {}
        owed = {key: self._owed[key] for key in list(self._owed)[:_TOMBSTONES_AT_ONCE]}
        try:
            replies = await self._store.run(self._operations(writes, owed))
        except StoreDown:
            if writes:
                self._store.trust.doubt_records()
            return
        finally:
            if group is not None:
                group.set()
        self._settle(owed, replies[len(writes) :])
        for (key, write), reply in zip(writes.items(), replies, strict=False):
            if isinstance(reply, OperationRefused):
                self._store.trust.doubt_records()
            elif isinstance(reply, bytes) and write.compare:
                self._not_ours(key)

    def _operations(self, writes: dict[str, _Write], owed: dict[str, Tombstone]) -> list[Operation]:
        operations: list[Operation] = [write.operation(key) for key, write in writes.items()]
        return operations + [EndSession(key, tombstone, by=self._ends_by) for key, tombstone in owed.items()]

    def _settle(self, owed: dict[str, Tombstone], replies: list[Any]) -> None:
        """A tombstone is done when Redis has answered, also when the record was of another life."""
        for (key, tombstone), reply in zip(owed.items(), replies, strict=True):
            if self._owed.get(key) is tombstone and not _may_be_accepted_later(reply):
                del self._owed[key]
        self._refused = any(map(_may_be_accepted_later, replies))


def _may_be_accepted_later(reply: Any) -> bool:
    """Redis refused, and not because the key holds a value of another type."""
    return isinstance(reply, OperationRefused) and reply.code != "WRONGTYPE"
