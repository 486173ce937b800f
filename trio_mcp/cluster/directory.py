"""The sessions of this node as Redis knows them: written in groups, owed while Redis is away, made right when it is back.

opened ─┐                       ┌─ 250 ms at most ─▶ `initialize` goes on
changed ─┼▶ pending ─▶ writer ──┤ one pipeline per thread hop
closed ──┘      ▲               └─ Redis away: drops stay owed, the rest is checked anew when it is back
                └──────────────────┘
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster import scripts
from trio_mcp.cluster.record import Identity, Keys, Record, Stone, read, read_record
from trio_mcp.cluster.redis.link import Command, CommandRefused, RedisDown, RedisLink
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.directory import MemoryDirectory
from trio_mcp.sessions.snapshot import Snapshot

__all__ = ["RETRY_SECONDS", "RedisDirectory", "told"]

logger = logging.getLogger("trio_mcp.cluster")

OPENING_SECONDS = 0.25
"""How long `initialize` waits for its record: others can relay to a session from its first request on."""

READ_SECONDS = 0.25
RETRY_SECONDS = 1.0
MAX_OWED = 10_000
"""Records to delete that Redis has not heard of: past it the oldest is left to its TTL, and counted."""

_BATCH = 500
_KEPT_REASONS = frozenset({"moved", "released"})
"""Ends of a session's life here, not of the session: its record is another's by now."""


def told(reason: str) -> str:
    """A reason as clients hear it: that this node stops is, seen from its peers, that it is gone."""
    return "node_gone" if reason == "shutdown" else reason


@dataclass(slots=True)
class _Write:
    """A record to write; `compare` once somebody else may know the session."""

    record: Record
    compare: bool


class RedisDirectory:
    """Implements the sessions' `Directory`. Redis being away costs no local session anything."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        me: Identity,
        metrics: Metrics,
        *,
        restorable: bool,
        lost: Callable[[str, str], None],
    ) -> None:
        self._link = link
        self._keys = keys
        self._me = me
        self._metrics = metrics
        self._restorable = restorable
        self._lost = lost
        """Called with a session's id and the reason when its record turns out to be another's."""
        self.memory = MemoryDirectory()
        self.down = False
        """The last command failed: nobody waits for Redis until one succeeds."""
        self.behind = False
        """Records may be missing or wrong: all are to be checked."""
        self.has_card = False
        """Our node's card has been put up: a Redis that is without it has lost more than that."""
        self.returned: Callable[[], None] = lambda: None
        """Called when Redis is back."""
        self._writes: dict[str, _Write] = {}
        self._drops: OrderedDict[str, Stone] = OrderedDict()
        self._wake = trio.Event()
        self._group: trio.Event | None = None
        self._groups: deque[tuple[float, trio.Event]] = deque()
        self._grouped = trio.Event()
        self._writing = False
        self._order = trio.Lock()
        """Held while records of ours are on their way: of two on two connections the earlier may land last."""
        self._refused = False
        """The last round left something that Redis would not delete."""
        self._round_over = trio.Event()
        metrics.count_owed_with(lambda: len(self._drops))

    # The port.

    async def opened(self, session: Snapshot) -> None:
        """Waits for the record, `OPENING_SECONDS` at most, and not at all while Redis is away."""
        self.memory.forget(session.id)
        if self._write(session, compare=False):
            await self._in_group()

    def changed(self, session: Snapshot) -> None:
        """Only a restore would want to know."""
        if self._restorable:
            known = self._writes.get(session.id)
            self._write(session, compare=known is None or known.compare)

    def closed(self, session: Snapshot, reason: str) -> None:
        """Owed until Redis has heard of it."""
        self._writes.pop(session.id, None)
        if reason in _KEPT_REASONS:
            return
        if reason == "shutdown" and self._restorable:
            self._write(session, compare=True, released=True)
            return
        said = told(reason)
        self.memory.closed(session, said)
        self._owe(session.id, Stone(said, session.owner, self._me.boot, session.epoch))

    async def why_gone(self, session_id: str, principal: Principal) -> str:
        """Asks Redis when nothing is remembered here; `unknown` when it cannot be asked."""
        reason = await self.memory.why_gone(session_id, principal)
        if reason != "unknown":
            return reason
        try:
            record, stone = await self.look_up(session_id)
        except RedisDown:
            return "unknown"
        if record is not None:
            return "elsewhere" if record.principal in (None, principal.digest) else "unknown"
        return stone.reason if stone is not None and stone.principal == principal.digest else "unknown"

    # For the rest of the cluster.

    async def look_up(self, session_id: str) -> tuple[Record | None, Stone | None]:
        """What Redis has of a session; raises RedisDown, also after `READ_SECONDS`."""
        with trio.move_on_after(READ_SECONDS):
            raw, stone, card = await self.run(
                [
                    ("GET", self._keys.session(session_id)),
                    ("GET", self._keys.closed(session_id)),
                    ("EXISTS", self._keys.node(self._me.node)),
                ]
            )
            if raw is None and stone is None and card == 0 and self.has_card:
                raise RedisDown("Redis has lost what it knew")
            record = read_record(raw)
            if record is None and isinstance(raw, bytes):
                event(logger, logging.WARNING, "record is not ours", session=session_label(session_id))
            return record, read(stone, Stone)
        raise RedisDown(f"Redis did not answer within {READ_SECONDS:g} s")

    async def run(self, commands: list[Command]) -> list[Any]:
        """As the link's `run`, measured. Raises RedisDown."""
        with self._metrics.directory_timed():
            try:
                replies = await self._link.run(commands)
            except RedisDown as fault:
                self._went(fault)
                raise
        for reply in replies:
            if isinstance(reply, CommandRefused):
                event(logger, logging.ERROR, "redis refused a command", why=str(reply))
                self._metrics.directory_failed("refused")
        self._came_back()
        return replies

    async def remove(self, session_id: str, record: Record) -> None:
        """A client's DELETE of a session whose node cannot do it: whoever's it is. Raises RedisDown."""
        stone = msgspec.json.encode(Stone.of(record, "deleted"))
        await self.run([scripts.tombstone(self._keys, session_id, stone), ("DEL", self._keys.session(session_id))])

    def bury(self, session_id: str, record: Record) -> None:
        """A session that ended with its node: leave a tombstone in its record's place."""
        self._owe(session_id, Stone.of(record, "node_gone"))

    async def release(self, session: Snapshot) -> bool:
        """Let another node have the session; False when Redis did not hear of it, as far as we know. Raises nothing."""
        self._writes.pop(session.id, None)
        record = Record.of(session, self._me, restorable=True, released=True)
        async with self._order:
            pass
        if self.down:
            return False
        try:
            (reply,) = await self.run([self._own(session.id, record)])
        except RedisDown:
            # It may have heard of it all the same; then the record is to be made right again.
            self.behind = True
            return False
        return not isinstance(reply, CommandRefused)

    async def check(self, sessions: Iterable[Snapshot]) -> None:
        """Compare every session of ours with its record: write what is missing, give up what is another's.

        Of `sessions` some are taken at a time: one that has ended by its turn must not be among them. Raises RedisDown.
        """
        self.behind = False
        those = iter(sessions)
        checked = False
        try:
            while not checked:
                async with self._order:
                    batch = list(islice(those, _BATCH))
                    await self._check(batch)
                checked = len(batch) < _BATCH
        finally:
            # Also when it took too long and was cancelled.
            self.behind = self.behind or not checked

    async def write(self) -> None:
        """The writer, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._let_go)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._writes or self._drops:
                    self._wake = trio.Event()
                    await self._write_round()

    async def flushed(self) -> None:
        """Wait until nothing is owed."""
        while self._writes or self._drops or self._writing:
            await self._round_over.wait()

    # The rest is its own business.

    async def _in_group(self) -> None:
        """Wait with all whose records will go by the same pipeline. One clock for all: a timer each would cost more."""
        if self._group is None:
            self._group = trio.Event()
            self._groups.append((trio.current_time() + OPENING_SECONDS, self._group))
            self._grouped.set()
        await self._group.wait()

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

    def _write(self, session: Snapshot, *, compare: bool, released: bool = False) -> bool:
        """Whether the record is on its way; while Redis is away all are checked when it is back instead."""
        if self.down:
            self.behind = True
            return False
        record = Record.of(session, self._me, restorable=self._restorable, released=released)
        self._writes[session.id] = _Write(record, compare)
        self._wake.set()
        return True

    def _owe(self, session_id: str, stone: Stone) -> None:
        self._drops[session_id] = stone
        if len(self._drops) > MAX_OWED:
            self._drops.popitem(last=False)
            self._metrics.owed_forgotten()
        self._wake.set()

    async def _write_round(self) -> None:
        group, self._group = self._group, None
        self._writing = True
        try:
            async with self._order:
                await self._write_some()
        finally:
            self._writing = False
            if group is not None:
                group.set()
        self._round_over.set()
        self._round_over = trio.Event()
        if self.down:
            await trio.sleep(RETRY_SECONDS)
        elif self._refused:
            # What it refuses now it would refuse at once again; only what is new cannot wait.
            with trio.move_on_after(RETRY_SECONDS):
                await self._wake.wait()

    async def _write_some(self) -> None:
        writes, self._writes = self._writes, {}
        drops = {key: self._drops[key] for key in list(self._drops)[:_BATCH]}
        commands = [self._command(key, write) for key, write in writes.items()]
        # The tombstone first: whoever asks in between finds the record, and never neither of them.
        commands += [scripts.tombstone(self._keys, key, msgspec.json.encode(stone)) for key, stone in drops.items()]
        commands += [scripts.drop(self._keys, key, stone.boot, stone.epoch) for key, stone in drops.items()]
        try:
            replies = await self.run(commands)
        except RedisDown:
            self.behind = self.behind or bool(writes)
            return
        self._settle_drops(drops, replies[len(writes) :])
        for (key, write), reply in zip(writes.items(), replies, strict=False):
            if isinstance(reply, CommandRefused):
                self.behind = True
            elif isinstance(reply, bytes) and write.compare:
                self._lost(key, "moved")

    def _settle_drops(self, drops: dict[str, Stone], replies: list[Any]) -> None:
        """What Redis has heard is not owed any more; what was another's was none of our business."""
        told, dropped = replies[: len(drops)], replies[len(drops) :]
        for (key, stone), *both in zip(drops.items(), told, dropped, strict=True):
            if self._drops.get(key) is stone and not any(map(_may_be_taken_later, both)):
                del self._drops[key]
        self._refused = any(map(_may_be_taken_later, replies))

    async def _check(self, sessions: list[Snapshot]) -> None:
        if not sessions:
            return
        commands: list[Command] = [("GET", self._keys.closed(session.id)) for session in sessions]
        stones = [read(raw, Stone) for raw in await self.run(commands)]
        alive = [session for session, stone in zip(sessions, stones, strict=True) if not self._ends(stone, session)]
        for session in sessions:
            if session not in alive:
                self._lost(session.id, "moved")
        records = [Record.of(session, self._me, restorable=self._restorable) for session in alive]
        replies = await self.run(
            [self._own(session.id, record) for session, record in zip(alive, records, strict=True)]
        )
        for session, reply in zip(alive, replies, strict=True):
            if isinstance(reply, bytes):
                self._lost(session.id, "moved")

    def _ends(self, stone: Stone | None, session: Snapshot) -> bool:
        """Whether a tombstone is for this very life of the session, not for one before."""
        return stone is not None and (stone.boot, stone.epoch) == (self._me.boot, session.epoch)

    def _command(self, session_id: str, write: _Write) -> Command:
        if write.compare:
            return self._own(session_id, write.record)
        return scripts.open_record(self._keys, session_id, msgspec.json.encode(write.record))

    def _own(self, session_id: str, record: Record) -> Command:
        return scripts.own(self._keys, session_id, record.boot, record.epoch, msgspec.json.encode(record))

    def _went(self, fault: RedisDown) -> None:
        self._metrics.directory_failed("down")
        if not self.down:
            self.down = True
            event(logger, logging.WARNING, "redis is away", why=str(fault), redis=self._link.shown)

    def _came_back(self) -> None:
        if self.down:
            self.down = False
            self.behind = True
            self._wake.set()
            self.returned()
            event(logger, logging.INFO, "redis is back", owed=len(self._drops), redis=self._link.shown)


def _may_be_taken_later(reply: Any) -> bool:
    """Redis refused, and not because the key holds something that is not ours."""
    return isinstance(reply, CommandRefused) and reply.code != "WRONGTYPE"
