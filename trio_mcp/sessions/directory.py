"""Which sessions exist and where: the port that a cluster fills, and the memory of a single node."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import trio

from trio_mcp.auth.principal import Principal

__all__ = ["Directory", "MemoryDirectory", "Tombstone"]

TOMBSTONE_SECONDS = 3_600.0
MAX_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A session that ended: why, whose it was, and when (trio clock)."""

    reason: str
    principal: Principal
    at: float


class Directory(Protocol):
    """Told of every session that opens or closes here; asked about those that are not here."""

    async def opened(self, session_id: str, principal: Principal) -> None:
        """A session lives here now."""

    def closed(self, session_id: str, principal: Principal, reason: str) -> None:
        """It ended; never blocks and never raises, whatever the local close did."""

    async def why_gone(self, session_id: str, principal: Principal) -> str:
        """The reason to give for a session that is not here: unknown, deleted, expired, crashed…"""


class MemoryDirectory:
    """The directory of one node: only the dead need remembering, the hub knows the living."""

    def __init__(self) -> None:
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()

    async def opened(self, session_id: str, principal: Principal) -> None:
        """Nothing to write: the hub's own table is the record."""

    def closed(self, session_id: str, principal: Principal, reason: str) -> None:
        """Leave a tombstone for an hour."""
        now = trio.current_time()
        self._tombstones[session_id] = Tombstone(reason, principal, now)
        self._tombstones.move_to_end(session_id)
        while len(self._tombstones) > MAX_TOMBSTONES or self._oldest().at < now - TOMBSTONE_SECONDS:
            self._tombstones.popitem(last=False)

    async def why_gone(self, session_id: str, principal: Principal) -> str:
        """Another principal hears "unknown", as for an id that never was."""
        stone = self._tombstones.get(session_id)
        if stone is None or stone.principal != principal or stone.at < trio.current_time() - TOMBSTONE_SECONDS:
            return "unknown"
        return stone.reason

    def _oldest(self) -> Tombstone:
        return next(iter(self._tombstones.values()))
