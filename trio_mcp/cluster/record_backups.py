"""Copies of records of sessions that no node has at the moment, for the case that Redis loses its data.

Each node writes the records of its own sessions again. The records of a node that was killed, and those of sessions that were released
and not claimed yet, are in Redis alone: a node that was asked for such a session, or released it, keeps a copy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from trio_mcp.cluster.record import OwnershipChange
from trio_mcp.cluster.store.port import PutBackRecord

__all__ = ["KEPT_SECONDS", "RecordBackups"]

KEPT_SECONDS = 60.0
"""Far longer than it takes to detect that a node is gone."""

MAX_BYTES = 16 * 1024 * 1024
"""Some 20,000 records of usual size; past it the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class _Kept:
    since: float
    epoch: int
    write: PutBackRecord


class RecordBackups:
    """Writes by session id. None replaces a record or a tombstone that is in Redis."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, session_id: str, epoch: int, write: PutBackRecord) -> None:
        """Keep the write of that epoch's record for `KEPT_SECONDS`, in place of an earlier one."""
        self.forget(session_id)
        self._kept[session_id] = kept = _Kept(trio.current_time(), epoch, write)
        self._bytes += len(kept.write.value)
        while self._bytes > MAX_BYTES:
            self.forget(next(iter(self._kept)))

    def forget(self, session_id: str) -> None:
        """Drop the copy: a node has the session again, or it has ended."""
        kept = self._kept.pop(session_id, None)
        if kept is not None:
            self._bytes -= len(kept.write.value)

    def changed(self, change: OwnershipChange) -> None:
        """Drop the copy when another node has claimed the session, or it has ended; not for a change of an earlier epoch."""
        kept = self._kept.get(change.session)
        if kept is not None and (change.epoch > kept.epoch or (change.ended and change.epoch == kept.epoch)):
            self.forget(change.session)

    def writes(self) -> Iterator[tuple[str, PutBackRecord]]:
        """The writes that are not too old, oldest first; entries may be dropped while this is read."""
        for session_id in list(self._kept):
            kept = self._kept.get(session_id)
            if kept is not None and trio.current_time() - kept.since <= KEPT_SECONDS:
                yield session_id, kept.write
            else:
                self.forget(session_id)
