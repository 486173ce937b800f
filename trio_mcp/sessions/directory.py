"""Where sessions are recorded: the port `Directory`, which a cluster fills, and the memory of a single node."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Client
from trio_mcp.sessions.close_reason import CloseReason

__all__ = ["Directory", "MemoryDirectory", "Snapshot", "Tombstone"]

TOMBSTONE_SECONDS = 3_600.0
"""A client gets the reason why its session ended for this long; after that the session is unknown."""

MAX_TOMBSTONES = 10_000


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A session at one moment: what a directory records, and a restore starts from.

    Streams, calls in flight and tasks are not part of it: they cannot be moved to another node.
    """

    id: str
    epoch: int
    """How often it was restored."""
    principal_digest: str
    """The digest of the principal that opened it."""
    version: str
    """The protocol version."""
    client: Client
    """As it described itself at `initialize`."""
    initialized: bool = False
    log_level: str = "info"
    created: int = 0
    """Seconds on the wall clock."""
    subscriptions: tuple[str, ...] = ()
    bound: bool = False
    """It lives on one connection: no request names it, and it cannot be restored."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A session that ended."""

    reason: CloseReason
    principal_digest: str
    """The digest of the principal that opened it."""
    at: float
    """When it ended (trio clock)."""


class Directory(Protocol):
    """Records every session that opens, changes or closes on this node, and answers for sessions that are not here."""

    async def opened(self, session: Snapshot) -> None:
        """Record a session that is here now. Returns when other nodes can know it, or after a short wait; never raises."""

    def changed(self, session: Snapshot) -> None:
        """Record what a restore would start from; never blocks and never raises."""

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """Record that it ended here; never blocks and never raises."""

    async def ended(self) -> None:
        """Wait until other nodes can know of the ends that were recorded. May wait for ever, never raises."""

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """The reason for the 404 of a session that is not here: UNKNOWN to every principal but its own."""


class MemoryDirectory:
    """The directory of a single node. It records only sessions that ended: the hub knows the others."""

    def __init__(self) -> None:
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()

    async def opened(self, session: Snapshot) -> None:
        """Nothing to record: the hub has it."""

    def changed(self, session: Snapshot) -> None:
        """Nothing to record: the session itself has it."""

    def closed(self, session: Snapshot, reason: CloseReason) -> None:
        """Leave a tombstone for an hour."""
        now = trio.current_time()
        self._tombstones[session.id] = Tombstone(reason, session.principal_digest, now)
        self._tombstones.move_to_end(session.id)
        while len(self._tombstones) > MAX_TOMBSTONES or self._oldest().at < now - TOMBSTONE_SECONDS:
            self._tombstones.popitem(last=False)

    async def ended(self) -> None:
        """No other node has to know."""

    async def why_gone(self, session_id: str, principal: Principal) -> CloseReason:
        """The tombstone's reason; UNKNOWN to another principal, as for an id that never was."""
        stone = self.tombstone(session_id)
        return (
            CloseReason.UNKNOWN if stone is None or stone.principal_digest not in principal.known_as else stone.reason
        )

    def tombstone(self, session_id: str) -> Tombstone | None:
        """The tombstone of a session that ended here, if there is still one."""
        stone = self._tombstones.get(session_id)
        return None if stone is None or stone.at < trio.current_time() - TOMBSTONE_SECONDS else stone

    def forget(self, session_id: str) -> None:
        """Remove the tombstone: the session was restored here."""
        self._tombstones.pop(session_id, None)

    def _oldest(self) -> Tombstone:
        return next(iter(self._tombstones.values()))
