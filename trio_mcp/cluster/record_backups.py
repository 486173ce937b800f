"""Records of sessions that are nobody's for a moment, remembered by who last saw them, for a Redis that loses what it knew.

A node writes its own sessions' records anew. Those of a node that was killed, and those that were let go of and not taken up yet, are
in Redis alone; a peer that was asked for the one, and the node that let go of the other, know what was in them.
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
"""Far longer than it takes to find out that a node is gone."""

MAX_BYTES = 16 * 1024 * 1024
"""Some 20,000 sessions whose clients say little of themselves; past it the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class _Kept:
    since: float
    epoch: int
    write: PutBackRecord


class RecordBackups:
    """The operations that write the records, by session id; none replaces a record or a tombstone that is there."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, session_id: str, epoch: int, write: PutBackRecord) -> None:
        """Remember what writes the record of that life for `KEPT_SECONDS` from now, in place of what was remembered."""
        self.forget(session_id)
        self._kept[session_id] = kept = _Kept(trio.current_time(), epoch, write)
        self._bytes += len(kept.write.value)
        while self._bytes > MAX_BYTES:
            self.forget(next(iter(self._kept)))

    def forget(self, session_id: str) -> None:
        """It is somebody's again, or has ended."""
        kept = self._kept.pop(session_id, None)
        if kept is not None:
            self._bytes -= len(kept.write.value)

    def changed(self, change: OwnershipChange) -> None:
        """Another has it, or it has ended; of an earlier life that is no news."""
        kept = self._kept.get(change.session)
        if kept is not None and (change.epoch > kept.epoch or (change.ended and change.epoch == kept.epoch)):
            self.forget(change.session)

    def writes(self) -> Iterator[tuple[str, PutBackRecord]]:
        """Those that are young enough, oldest first; some may be forgotten before their turn."""
        for session_id in list(self._kept):
            kept = self._kept.get(session_id)
            if kept is not None and trio.current_time() - kept.since <= KEPT_SECONDS:
                yield session_id, kept.write
            else:
                self.forget(session_id)
