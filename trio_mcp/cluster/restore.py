"""Continues a session of a node that is gone, or that released it: claims its record, and opens the session from it."""

from __future__ import annotations

import logging

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.membership import BEAT_SECONDS
from trio_mcp.cluster.record import Record, read_record
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import ClaimRecord, OperationRefused, StoreDown
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import SessionClosed, SessionNotFound
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession

__all__ = ["Restorer"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")


class Restorer:
    """Claims records and continues their sessions here.

    Of several nodes that claim a record one succeeds. Requests on one node for the same session share one claim.
    """

    def __init__(self, hub: Hub, store: MeasuredStore, directory: RedisDirectory, metrics: Metrics) -> None:
        self._hub = hub
        self._store = store
        self._directory = directory
        self._metrics = metrics
        self._under_way: dict[str, trio.Event] = {}

    async def restore(self, session_id: str, record: Record, who: Principal) -> LiveSession | None:
        """The session, once it serves; None when another node has claimed it first: its record has to be read again.

        Raises SessionNotFound when it failed to start, TooManySessions when this node has no room, and StoreDown.
        """
        other = self._under_way.get(session_id)
        if other is not None:
            await other.wait()
            return self._hub.get(session_id, who)
        self._under_way[session_id] = trio.Event()
        try:
            # Before the claim: a node that owns the record and has no room for the session would keep it from all others.
            async with self._hub.room_for(session_id):
                return await self._restore(session_id, record, who)
        finally:
            self._under_way.pop(session_id).set()

    async def _restore(self, session_id: str, record: Record, who: Principal) -> LiveSession | None:
        snapshot = record.snapshot(session_id, who)
        if record.boot == self._directory.me.boot and not record.released:
            # Claimed by this node before; the reply was lost.
            snapshot = msgspec.structs.replace(record, epoch=record.epoch - 1).snapshot(session_id, who)
        elif not await self._claim(session_id, record, who):
            self._metrics.restored("lost")
            return None
        self._directory.backups.forget(session_id)
        began = trio.current_time()
        try:
            session = await self._hub.restore(snapshot, who)
        except SessionClosed as fault:
            self._directory.closed(snapshot, CloseReason.read(fault.reason))
            self._metrics.restored("failed")
            raise SessionNotFound(fault.reason) from None
        if trio.current_time() - began > BEAT_SECONDS:
            # Its hooks took so long that another node may have claimed the record since. Writing it again tells.
            self._directory.changed(session.snapshot())
        self._metrics.restored("restored")
        event(
            logger,
            logging.INFO,
            "session taken over",
            session=session.short_id,
            origin=record.node,
            epoch=snapshot.epoch,
        )
        return session

    async def _claim(self, session_id: str, record: Record, who: Principal) -> bool:
        mine = Record.of(record.snapshot(session_id, who), self._directory.me, restorable=True)
        claim = ClaimRecord(session_id, record, mine)
        (reply,) = await self._store.run([claim])
        if isinstance(reply, OperationRefused):
            raise StoreDown(str(reply))
        winner = read_record(reply)
        if winner is not None:
            event(logger, logging.INFO, "claim lost", session=session_label(session_id), winner=winner.node)
        return bool(reply == 1)
