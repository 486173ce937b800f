"""The session directory of a cluster: writes this node's sessions to Redis, and reads from it where the others are."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.facts import Recorded, recorded
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
"""How long a request waits for Redis before it asks a peer instead."""


class RedisDirectory:
    """Implements the sessions' `Directory` port. While Redis is away, sessions of this node go on as before.

    With `restorable` other nodes may restore sessions from the records. `not_ours` is as in `RecordWriter`.
    """

    def __init__(
        self,
        store: MeasuredStore,
        backups: RecordBackups,
        me: Identity,
        metrics: Metrics,
        *,
        restorable: bool,
        not_ours: Callable[[str], None],
    ) -> None:
        self._store = store
        self._trust = store.trust
        self.me: Identity = me
        self.restorable: bool = restorable
        self.not_ours: Callable[[str], None] = not_ours
        self.memory: MemoryDirectory = MemoryDirectory()
        self.writer: RecordWriter = RecordWriter(store, me.boot, metrics, tell_ends=restorable, not_ours=not_ours)
        self.backups: RecordBackups = backups
        store.on_return(self._trust.doubt_records)

    # The port.

    async def opened(self, session: Snapshot) -> None:
        """Write the first record, and wait for that 250 ms at most; while Redis is away do not wait at all."""
        self.memory.forget(session.id)
        if self._put(session, opens=True):
            await self.writer.written()

    def changed(self, session: Snapshot) -> None:
        """Write the record again, where a restore may need it."""
        if self.restorable and not session.bound:
            self._put(session)

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """Put a tombstone in the record's place, or mark the record released where other nodes may restore the session."""
        self.writer.withdraw(session.id)
        if reason.goes_on:
            return
        if reason is CloseReason.SHUTDOWN and self.restorable and not session.bound:
            self._put(session, released=True)
            return
        said = reason.as_seen_by_peers
        self.memory.closed(session, said)
        self.writer.owe(session.id, Tombstone(said, session.principal_digest, self.me.boot, session.epoch))

    async def ended(self) -> None:
        """Wait until the tombstones are in Redis; while Redis is away do not wait at all."""
        if not self.away:
            await self.writer.flushed()

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """From this node's memory, else from Redis; UNKNOWN when Redis cannot be asked."""
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

    @property
    def away(self) -> bool:
        """Whether Redis is known not to answer, so that it is not waited for."""
        return self._store.down

    def record_of(self, session: Snapshot, *, released: bool = False) -> Record:
        """The record of a session of this process."""
        return Record.of(session, self.me, restorable=self.restorable, released=released)

    def whose(self, found: Record | Tombstone | None, who: Principal) -> Recorded | CloseReason:
        """What a result of `look_up` says of the session to that principal."""
        return recorded(found, who, self.me, has_node_id=self._trust.has_node_id)

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
                # A beat that is under way may have put our card up again, and not have its reply yet: only that says that it was missing.
                pass
            if not self._trust.is_refilled:
                raise StoreDown("Redis has lost data a moment ago")
        return found

    async def _read(self, session_id: str) -> Record | Tombstone | None:
        raw, tombstone, card_stands = await self._store.run(
            [ReadRecord(session_id), ReadTombstone(session_id), HasCard(self.me.node)]
        )
        if raw is None and tombstone is None and self._trust.has_lost_data(card_stands=bool(card_stands)):
            raise StoreDown("Redis has lost data")
        record = read_record(raw)
        if record is None and isinstance(raw, bytes):
            event(logger, logging.WARNING, "record is not ours", session=session_label(session_id))
        if record is not None and record.transport:
            # It lives on one connection, and to every request its id is unknown.
            return None
        return record or read(tombstone, Tombstone)

    async def remove(self, session_id: str, record: Record) -> bool:
        """Do a client's DELETE in place of a node that cannot; False when another node has claimed the session. Raises StoreDown."""
        tombstone = Tombstone.of(record, CloseReason.DELETED)
        (reply,) = await self._store.run([EndSession(session_id, tombstone, by=self.me.boot)])
        if isinstance(reply, OperationRefused):
            raise StoreDown(str(reply))
        return bool(reply == 1)

    def bury(self, session_id: str, record: Record) -> None:
        """Put a tombstone in the place of the record of a session that ended with its node."""
        self.writer.owe(session_id, Tombstone.of(record, CloseReason.NODE_GONE))

    def keep(self, session_id: str, record: Record) -> None:
        """Keep a backup of the record: if its node is gone and Redis loses its data now, there is no other copy."""
        if record.restorable and record.readable:
            self.backups.keep(session_id, record.epoch, PutBackRecord(session_id, record))

    async def release(self, session: Snapshot) -> bool:
        """Mark the record released, so that another node may claim the session; False when Redis did not confirm it. Raises nothing."""
        self.writer.withdraw(session.id)
        record = Record.of(session, self.me, restorable=True, released=True)
        async with self.writer.order:
            pass  # Records that were being written have arrived.
        if self.away:
            return False
        # Before the reply: the message of a node that claims it at once drops the backup again.
        self.keep(session.id, record)
        try:
            (reply,) = await self._store.run([OwnRecord(session.id, record)])
        except StoreDown:
            # Redis may have done it all the same: the record has to be put right.
            self._trust.doubt_records()
            self.backups.forget(session.id)
            return False
        if isinstance(reply, OperationRefused):
            self.backups.forget(session.id)
            return False
        return True

    def _put(self, session: Snapshot, *, opens: bool = False, released: bool = False) -> bool:
        """Whether the record is pending; while Redis is away it is not, for all records are compared when it is back."""
        if self.away:
            self._trust.doubt_records()
            return False
        self.backups.forget(session.id)
        self.writer.put(session.id, self.record_of(session, released=released), opens=opens)
        return True
