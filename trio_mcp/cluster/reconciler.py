"""All records of this node compared with its sessions, when Redis may not have them as they should be.

It runs in a task of its own, so that a slow Redis does not delay the heartbeat.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import trio

from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import OwnRecord, StoreDown
from trio_mcp.observability.logs import event
from trio_mcp.sessions.directory import Snapshot

__all__ = ["Reconciler"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

RENEW_SECONDS = 24 * 3600.0
"""Records are written anew this often, which starts their time to live again. That is 30 days."""

_BATCH = 500
_BATCH_BYTES = 512 * 1024
"""Of one pipeline."""


class Reconciler:
    """Compares when somebody asks for it, one comparison at a time.

    `sessions` gives those to compare. `directory` writes their records one by one, and is told of sessions that are not ours.
    """

    def __init__(
        self, store: MeasuredStore, directory: RedisDirectory, sessions: Callable[[], Iterable[Snapshot]]
    ) -> None:
        self._store = store
        self._directory = directory
        self._sessions = sessions
        self._renew_at = trio.current_time() + RENEW_SECONDS
        self._wanted = trio.Event()
        self._ended = trio.Event()
        """For the comparison that has not begun."""
        self.under_way: bool = False

    @property
    def pending(self) -> bool:
        """Whether one is still to begin."""
        return self._wanted.is_set()

    @property
    def is_due(self) -> bool:
        """Whether records have to be renewed."""
        return trio.current_time() >= self._renew_at

    def want(self) -> trio.Event:
        """Compare as soon as possible; the event is set when that has ended. All who ask before it begins get the same event."""
        self._renew_at = trio.current_time() + RENEW_SECONDS
        self._wanted.set()
        return self._ended

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            ended, self._wanted, self._ended = self._ended, trio.Event(), trio.Event()
            self.under_way = True
            try:
                await self.compare(self._sessions())
            except StoreDown:
                event(logger, logging.WARNING, "records unchecked", why="redis is away; checked when it is back")
            self.under_way = False
            ended.set()

    async def compare(self, sessions: Iterable[Snapshot]) -> None:
        """Write the records that are missing, and give up sessions that are another node's or have ended; then write the backups.

        `sessions` is read in batches: one that has ended before its turn must not be among them. Raises StoreDown.
        """
        self._store.trust.records_doubted = False
        those = iter(sessions)
        compared, more = False, True
        try:
            while more:
                async with self._directory.writer.order:
                    batch = self._batch(those)
                    await self._write(batch)
                more = bool(batch)
            await self._write_backups()
            compared = True
        finally:
            if not compared:
                # Also when it was cancelled.
                self._store.trust.doubt_records()

    def _batch(self, sessions: Iterator[Snapshot]) -> dict[str, OwnRecord]:
        """The writes for the next ones, by session id: as many as one pipeline may be long."""
        batch: dict[str, OwnRecord] = {}
        size = 0
        for session in sessions:
            batch[session.id] = write = OwnRecord(session.id, self._directory.record_of(session))
            size += len(write.value)
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                break
        return batch

    async def _write(self, batch: dict[str, OwnRecord]) -> None:
        if not batch:
            return
        replies = await self._store.run(list(batch.values()))
        for session_id, reply in zip(batch, replies, strict=True):
            if isinstance(reply, bytes):
                self._directory.not_ours(session_id)

    async def _write_backups(self) -> None:
        kept = self._directory.backups.writes()
        while batch := [write for _, write in islice(kept, _BATCH)]:
            await self._store.run(batch)
