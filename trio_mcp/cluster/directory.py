"""The sessions of this node as Redis knows them, and those of the others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

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
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.cluster.writer import RecordWriter
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import MemoryDirectory, Snapshot

__all__ = ["RedisDirectory"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

READ_SECONDS = 0.25


class RedisDirectory:
    """Implements the sessions' `Directory`. Redis being away costs no local session anything."""

    def __init__(
        self,
        store: MeasuredStore,
        trust: StoreTrust,
        backups: RecordBackups,
        me: Identity,
        metrics: Metrics,
        *,
        restorable: bool,
        lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._trust = trust
        self._me = me
        self._restorable = restorable
        self.memory = MemoryDirectory()
        self.writer = RecordWriter(store, me.boot, metrics, tell_ends=restorable, lost=lost, failed=trust.doubt_records)
        self.backups = backups
        store.on_return(trust.doubt_records)

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
            found = await self.look_up(session_id)
        except StoreDown:
            return CloseReason.UNKNOWN
        match found:
            case Tombstone():
                return found.said_to(principal)
            case Record() if found.may_be_of(principal):
                return CloseReason.ELSEWHERE
        return CloseReason.UNKNOWN

    # For the rest of the cluster.

    async def look_up(self, session_id: str, *, patiently: bool = False) -> Record | Tombstone | None:
        """What Redis has of a session; None when there is proof that it has nothing.

        Waits `READ_SECONDS` at most, for a peer may know; patiently, until Redis counts as away (a second). Raises StoreDown, also
        where Redis has lost data and may not have this record again yet.
        """
        with trio.move_on_after(math.inf if patiently else READ_SECONDS) as waiting:
            found = await self._read(session_id)
        if waiting.cancelled_caught:
            raise StoreDown(f"Redis did not answer within {READ_SECONDS:g} s")
        if found is None:
            async with self._trust.beat:
                # One that is under way may have put our card up already, without having noticed yet that it was missing.
                pass
            if not self._trust.is_refilled:
                raise StoreDown("Redis has lost data a moment ago")
        return found

    async def _read(self, session_id: str) -> Record | Tombstone | None:
        raw, tombstone, card_stands = await self._store.run(
            [ReadRecord(session_id), ReadTombstone(session_id), HasCard(self._me.node)]
        )
        if raw is None and tombstone is None and self._trust.has_lost_data(card_stands=bool(card_stands)):
            raise StoreDown("Redis has lost data")
        record = read_record(raw)
        if record is None and isinstance(raw, bytes):
            event(logger, logging.WARNING, "record is not ours", session=session_label(session_id))
        return record or read(tombstone, Tombstone)

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
        if self._trust.away:
            return False
        # Before it is known to be written: whoever claims it at once says that it need not be kept.
        self.keep(session.id, record)
        try:
            (reply,) = await self._store.run([OwnRecord(session.id, record)])
        except StoreDown:
            # It may have heard of it all the same; then the record is to be made right again.
            self._trust.doubt_records()
            self.backups.forget(session.id)
            return False
        if isinstance(reply, OperationRefused):
            self.backups.forget(session.id)
            return False
        return True

    # The rest is its own business.

    def _put(self, session: Snapshot, *, opens: bool = False, released: bool = False) -> bool:
        """Whether the record is on its way; while Redis is away all are checked when it is back instead."""
        if self._trust.away:
            self._trust.doubt_records()
            return False
        self.backups.forget(session.id)
        record = Record.of(session, self._me, restorable=self._restorable, released=released)
        self.writer.put(session.id, record, opens=opens)
        return True
