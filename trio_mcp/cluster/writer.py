"""What Redis is still to hear of this node's sessions: records to write, and ends that are owed until it has heard of them.

put ─┐                       ┌─ whoever waits goes on, after 250 ms in any case
     ├▶ pending ─▶ writer ───┤  one pipeline for all that waits
owe ─┘      ▲                └─ Redis away: ends stay owed; records are checked anew when it is back
            └────────────────────┘
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
"""How long one waits for a record: others can relay to a session from its first request on."""

MAX_OWED = 10_000
"""Ends that Redis has not heard of: past it the oldest record is left to its TTL, and counted."""

_ENDS_AT_ONCE = 500


@dataclass(slots=True)
class _Write:
    """A record to write; `compare` once somebody else may know the session."""

    record: Record
    compare: bool

    def operation(self, session_id: str) -> OpenRecord | OwnRecord:
        return (OwnRecord if self.compare else OpenRecord)(session_id, self.record)


class RecordWriter:
    """`lost` is called with the id of a session that is another's or has ended, `failed` when records may not have been written.

    With `tell_ends` all nodes are told of each end, for they may remember the record of the session that has ended.
    """

    def __init__(
        self,
        store: MeasuredStore,
        boot: str,
        metrics: Metrics,
        *,
        tell_ends: bool,
        lost: Callable[[str], None],
        failed: Callable[[], None],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._ends_by = "" if tell_ends else boot
        self._lost = lost
        self._failed = failed
        self.order: trio.Lock = trio.Lock()
        """Held while records of ours are on their way: of two on two connections the earlier may land last."""
        self._writes: dict[str, _Write] = {}
        self._owed: OrderedDict[str, Tombstone] = OrderedDict()
        self._wake = trio.Event()
        self._group: trio.Event | None = None
        self._groups: deque[tuple[float, trio.Event]] = deque()
        self._grouped = trio.Event()
        self._writing = False
        self._refused = False
        """The last round left something that Redis would not take."""
        self._round_over = trio.Event()
        store.on_return(lambda: self._wake.set())
        metrics.count_owed_with(lambda: len(self._owed))

    def put(self, session_id: str, record: Record, *, opens: bool) -> None:
        """Write the record, in place of one that still waits. Until a session's first record is out, nobody else knows it."""
        waiting = self._writes.get(session_id)
        unknown = opens or (waiting is not None and not waiting.compare)
        self._writes[session_id] = _Write(record, compare=not unknown)
        self._wake.set()

    def withdraw(self, session_id: str) -> None:
        """Forget a record that still waits."""
        self._writes.pop(session_id, None)

    def owe(self, session_id: str, stone: Tombstone) -> None:
        """Put the tombstone in the place of the record, if that is of the same life."""
        self._owed[session_id] = stone
        if len(self._owed) > MAX_OWED:
            self._owed.popitem(last=False)
            self._metrics.owed_forgotten()
        self._wake.set()

    async def written(self) -> None:
        """Wait with all whose records go by the same pipeline. One clock for all: a timer each would cost more."""
        if self._group is None:
            self._group = trio.Event()
            self._groups.append((trio.current_time() + GROUP_SECONDS, self._group))
            self._grouped.set()
        await self._group.wait()

    async def flushed(self) -> None:
        """Wait until nothing is owed."""
        while self._writes or self._owed or self._writing:
            await self._round_over.wait()

    async def write(self) -> None:
        """The writer, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._let_go)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._writes or self._owed:
                    self._wake = trio.Event()
                    await self._round()

    async def _let_go(self) -> None:
        """The clock: whoever waited long enough goes on without their record."""
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
            # What it refuses now it would refuse at once again; only what is new cannot wait.
            with trio.move_on_after(RETRY_SECONDS):
                await self._wake.wait()

    async def _write_some(self) -> None:
        # In one step: who joins a group later has a record that goes later.
        group, self._group = self._group, None
        writes, self._writes = self._writes, {}
        owed = {key: self._owed[key] for key in list(self._owed)[:_ENDS_AT_ONCE]}
        try:
            replies = await self._store.run(self._operations(writes, owed))
        except StoreDown:
            if writes:
                self._failed()
            return
        finally:
            if group is not None:
                group.set()
        self._settle(owed, replies[len(writes) :])
        for (key, write), reply in zip(writes.items(), replies, strict=False):
            if isinstance(reply, OperationRefused):
                self._failed()
            elif isinstance(reply, bytes) and write.compare:
                self._lost(key)

    def _operations(self, writes: dict[str, _Write], owed: dict[str, Tombstone]) -> list[Operation]:
        operations: list[Operation] = [write.operation(key) for key, write in writes.items()]
        return operations + [EndSession(key, stone, by=self._ends_by) for key, stone in owed.items()]

    def _settle(self, owed: dict[str, Tombstone], replies: list[Any]) -> None:
        """What Redis has heard is not owed any more; what was another's was none of our business."""
        for (key, stone), reply in zip(owed.items(), replies, strict=True):
            if self._owed.get(key) is stone and not _may_be_taken_later(reply):
                del self._owed[key]
        self._refused = any(map(_may_be_taken_later, replies))


def _may_be_taken_later(reply: Any) -> bool:
    """Redis refused, and not because the key holds something that is not ours."""
    return isinstance(reply, OperationRefused) and reply.code != "WRONGTYPE"
