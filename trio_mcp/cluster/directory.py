"""The sessions of this node as Redis knows them, and those of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.record import Identity, Record, Tombstone, read, read_record
from trio_mcp.cluster.record_backups import RecordBackups
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import (
    EndSession,
    HasCard,
    OperationRefused,
    OwnRecord,
    PutBackRecord,
    ReadRecord,
    ReadTombstone,
    StoreDown,
)
from trio_mcp.cluster.writer import RecordWriter
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import MemoryDirectory, Snapshot

__all__ = ["RedisDirectory"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

READ_SECONDS = 0.25

_BATCH = 500
_BATCH_BYTES = 512 * 1024


class RedisDirectory:
    """Implements the sessions' `Directory`. Redis being away costs no local session anything."""

    def __init__(
        self,
        store: MeasuredStore,
        me: Identity,
        metrics: Metrics,
        *,
        restorable: bool,
        lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._me = me
        self._restorable = restorable
        self._lost = lost
        """Called with a session's id when its record turns out to be another's, or a tombstone to be there instead."""
        self.memory: MemoryDirectory = MemoryDirectory()
        self.writer: RecordWriter = RecordWriter(
            store, me.boot, metrics, tell_ends=restorable, lost=lost, failed=self.fall_behind
        )
        self.backups: RecordBackups = RecordBackups()
        self.behind: bool = False
        """Records may be missing or wrong: all are to be checked."""
        self.has_card = False
        """Our node's card has been put up, or Redis was away when it was to be: one that is without it may have lost more than that."""
        store.on_return(self.fall_behind)

    def fall_behind(self) -> None:
        """Redis may not know what it should."""
        self.behind = True

    # The port.

    async def opened(self, session: Snapshot) -> None:
        """Waits for the record, but not for long, and not at all while Redis is away."""
        self.memory.forget(session.id)
        if self._put(session, opens=True):
            await self.writer.written()

    def changed(self, session: Snapshot) -> None:
        """Only a restore would want to know."""
        if self._restorable:
            self._put(session)

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """Owed until Redis has heard of it."""
        self.writer.withdraw(session.id)
        if reason.goes_on:
            return
        if reason is CloseReason.SHUTDOWN and self._restorable:
            self._put(session, released=True)
            return
        said = reason.as_seen_by_peers
        self.memory.closed(session, said)
        self.writer.owe(session.id, Tombstone(said, session.owner, self._me.boot, session.epoch))

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """Asks Redis when nothing is remembered here; UNKNOWN when it cannot be asked."""
        reason = await self.memory.why_gone(session_id, principal)
        if reason is not CloseReason.UNKNOWN:
            return reason
        try:
            record, stone = await self.look_up(session_id)
        except StoreDown:
            return CloseReason.UNKNOWN
        if record is not None:
            return CloseReason.ELSEWHERE if record.may_be_of(principal) else CloseReason.UNKNOWN
        return CloseReason.UNKNOWN if stone is None else stone.said_to(principal)

    # For the rest of the cluster.

    @property
    def away(self) -> bool:
        """Whether Redis is known to be: nobody need wait for it."""
        return self._store.down

    async def look_up(self, session_id: str) -> tuple[Record | None, Tombstone | None]:
        """What Redis has of a session; raises StoreDown, also after `READ_SECONDS`: somebody else may know."""
        with trio.move_on_after(READ_SECONDS):
            return await self.look_up_patiently(session_id)
        raise StoreDown(f"Redis did not answer within {READ_SECONDS:g} s")

    async def look_up_patiently(self, session_id: str) -> tuple[Record | None, Tombstone | None]:
        """The same from a Redis that is slow: one that does not answer for a second is away."""
        raw, stone, card = await self._store.run(
            [
                ReadRecord(session_id),
                ReadTombstone(session_id),
                HasCard(self._me.node),
            ]
        )
        if raw is None and stone is None and not card and self.has_card:
            raise StoreDown("Redis has lost what it knew")
        record = read_record(raw)
        if record is None and isinstance(raw, bytes):
            event(logger, logging.WARNING, "record is not ours", session=session_label(session_id))
        return record, read(stone, Tombstone)

    async def remove(self, session_id: str, record: Record) -> bool:
        """A client's DELETE of a session whose node cannot do it; False when it is another's by now. Raises StoreDown."""
        stone = Tombstone.of(record, CloseReason.DELETED)
        (reply,) = await self._store.run([EndSession(session_id, stone, by=self._me.boot)])
        if isinstance(reply, OperationRefused):
            raise StoreDown(str(reply))
        return bool(reply == 1)

    def bury(self, session_id: str, record: Record) -> None:
        """A session that ended with its node: leave a tombstone in its record's place."""
        self.writer.owe(session_id, Tombstone.of(record, CloseReason.NODE_GONE))

    def keep(self, session_id: str, record: Record) -> None:
        """Its node may be gone: should Redis lose the record now, nobody else would have it."""
        if record.restorable and record.readable:
            self.backups.keep(session_id, record.epoch, PutBackRecord(session_id, record))

    async def release(self, session: Snapshot) -> bool:
        """Let another node have the session; False when Redis did not hear of it, as far as we know. Raises nothing."""
        self.writer.withdraw(session.id)
        record = Record.of(session, self._me, restorable=True, released=True)
        async with self.writer.order:
            pass  # What was said before has landed.
        if self._store.down:
            return False
        # Before it is known to be written: whoever claims it at once says that it need not be kept.
        self.keep(session.id, record)
        try:
            (reply,) = await self._store.run([OwnRecord(session.id, record)])
        except StoreDown:
            # It may have heard of it all the same; then the record is to be made right again.
            self.behind = True
            self.backups.forget(session.id)
            return False
        if isinstance(reply, OperationRefused):
            self.backups.forget(session.id)
            return False
        return True

    async def check(self, sessions: Iterable[Snapshot]) -> None:
        """Compare every session of ours with its record: write what is missing, give up what is another's or has ended.

        Records that were kept for sessions which are nobody's follow.
        Of `sessions` some are taken at a time: one that has ended by its turn must not be among them. Raises StoreDown.
        """
        self.behind = False
        those = iter(sessions)
        checked, more = False, True
        try:
            while more:
                async with self.writer.order:
                    batch = self._batch(those)
                    await self._check(batch)
                more = bool(batch)
            await self._write_kept()
            checked = True
        finally:
            # Also when it was cancelled.
            self.behind = self.behind or not checked

    # The rest is its own business.

    def _put(self, session: Snapshot, *, opens: bool = False, released: bool = False) -> bool:
        """Whether the record is on its way; while Redis is away all are checked when it is back instead."""
        if self._store.down:
            self.behind = True
            return False
        self.backups.forget(session.id)
        record = Record.of(session, self._me, restorable=self._restorable, released=released)
        self.writer.put(session.id, record, opens=opens)
        return True

    def _batch(self, sessions: Iterator[Snapshot]) -> dict[str, OwnRecord]:
        """The writes for the next ones, by session id: as many as one pipeline may be long."""
        batch: dict[str, OwnRecord] = {}
        size = 0
        for session in sessions:
            # A release that was taken back.
            self.backups.forget(session.id)
            record = Record.of(session, self._me, restorable=self._restorable)
            batch[session.id] = write = OwnRecord(session.id, record)
            size += len(write.value)
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                break
        return batch

    async def _check(self, batch: dict[str, OwnRecord]) -> None:
        if not batch:
            return
        replies = await self._store.run(list(batch.values()))
        for session_id, reply in zip(batch, replies, strict=True):
            if isinstance(reply, bytes):
                self._lost(session_id)

    async def _write_kept(self) -> None:
        kept = self.backups.writes()
        while batch := [write for _, write in islice(kept, _BATCH)]:
            await self._store.run(batch)
