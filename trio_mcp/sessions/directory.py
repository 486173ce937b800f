"""Which sessions exist and where: the port that a cluster fills, and the memory of a single node."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Client
from trio_mcp.sessions.close_reason import CloseReason

__all__ = ["Directory", "MemoryDirectory", "Snapshot", "Tombstone"]

TOMBSTONE_SECONDS = 3_600.0
MAX_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One session at one moment. Streams, calls in flight and tasks are not part of it: they cannot be moved."""

    id: str
    epoch: int
    """How often it was restored: each life has its own."""
    owner: str
    """The digest of the principal that opened it."""
    version: str
    """The protocol version."""
    client: Client
    initialized: bool = False
    log_level: str = "info"
    created: int = 0
    """Seconds on the wall clock."""
    subscriptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A session that ended: why, the digest of whose it was, and when (trio clock)."""

    reason: CloseReason
    owner: str
    at: float


class Directory(Protocol):
    """Told of every session that opens, changes or closes here; asked about those that are not here."""

    async def opened(self, session: Snapshot) -> None:
        """A session lives here now. Returns when others can know it, or soon in any case; never raises."""

    def changed(self, session: Snapshot) -> None:
        """What a restore would start from is another now; never blocks and never raises."""

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """It ended; never blocks and never raises, whatever the local close did."""

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """The reason to give for a session that is not here."""


class MemoryDirectory:
    """The directory of one node: only the dead need remembering, the hub knows the living."""

    def __init__(self) -> None:
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()

    async def opened(self, session: Snapshot) -> None:
        """Nothing to write: the hub's own table is the record."""

    def changed(self, session: Snapshot) -> None:
        """Nothing to write: the session itself is the record."""

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """Leave a tombstone for an hour."""
        now = trio.current_time()
        self._tombstones[session.id] = Tombstone(reason, session.owner, now)
        self._tombstones.move_to_end(session.id)
        while len(self._tombstones) > MAX_TOMBSTONES or self._oldest().at < now - TOMBSTONE_SECONDS:
            self._tombstones.popitem(last=False)

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """Another principal is told UNKNOWN, as for an id that never was."""
        stone = self.tombstone(session_id)
        return CloseReason.UNKNOWN if stone is None or stone.owner not in principal.known_as else stone.reason

    def tombstone(self, session_id: str) -> Tombstone | None:
        """What is remembered of a session that ended here."""
        stone = self._tombstones.get(session_id)
        return None if stone is None or stone.at < trio.current_time() - TOMBSTONE_SECONDS else stone

    def forget(self, session_id: str) -> None:
        """It lives here again."""
        self._tombstones.pop(session_id, None)

    def _oldest(self) -> Tombstone:
        return next(iter(self._tombstones.values()))
