"""How many sessions of a node one caller may have: by principal and by client address.

hub ─▶ Shares ─── take, note, give back ──▶ Counts ─┬─ this process
                                                    └─ the supervisor, where a node has several processes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.protocol.errors import TooManySessions

__all__ = ["Counts", "SessionCounts", "Share", "Shares", "TooManyForCaller"]


class TooManyForCaller(TooManySessions):
    """429 on `initialize`: this principal, or this address, has as many sessions here as it may."""


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What a session counts for."""

    kind: str
    """`principal` or `address`."""
    who: str
    bound: int
    """How many sessions of theirs there may be."""


class SessionCounts:
    """Which sessions count for whom. `process` names the one that has a session: of several, the last that noted it has it."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, str]] = Counter()
        self._of: dict[str, tuple[str, Sequence[Share]]] = {}

    def take(self, session_id: str, shares: Sequence[Share], process: str = "") -> str:
        """Count a session that is about to begin. The kind of the share that is full, and then nothing was counted; else empty."""
        for share in shares:
            if self._held[share.kind, share.who] >= share.bound:
                return share.kind
        self.note(session_id, shares, process)
        return ""

    def note(self, session_id: str, shares: Sequence[Share], process: str = "") -> None:
        """Count a session that goes on, within the bounds or not, and once: a process may have it whose copy still ends."""
        _, before = self._of.get(session_id, ("", ()))
        # What is known of it and not said again stays: where a session goes on, its client's address may not be known yet.
        kinds = {share.kind for share in shares}
        kept = [*shares, *(share for share in before if share.kind not in kinds)]
        self._forget(session_id)
        self._of[session_id] = process, kept
        self._held.update((share.kind, share.who) for share in kept)

    def give_back(self, session_id: str, process: str = "") -> None:
        """Count it no more, if that process has it: it ended, or never began."""
        if session_id in self._of and self._of[session_id][0] == process:
            self._forget(session_id)

    def process_ended(self, process: str) -> None:
        """Count no more what it had."""
        for session_id in [each for each, (holder, _) in self._of.items() if holder == process]:
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        for share in self._of.pop(session_id, ("", ()))[1]:
            key = share.kind, share.who
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]


class Counts(Protocol):
    """Where the sessions of a node are counted: see `SessionCounts`."""

    async def take(self, session_id: str, shares: Sequence[Share]) -> str:
        """The kind of the share that is full, else empty. Raises TooManySessions when it cannot be counted now."""
        ...

    def note(self, session_id: str, shares: Sequence[Share]) -> None:
        """Count a session that goes on here."""
        ...

    def give_back(self, session_id: str) -> None:
        """Count it no more, if it goes on nowhere else."""
        ...

    async def settled(self) -> None:
        """Wait until all that was given back counts no more, wherever that is counted."""
        ...


class _OwnCounts:
    """Of a node that is this process; implements `Counts`."""

    def __init__(self) -> None:
        self._counts = SessionCounts()

    async def take(self, session_id: str, shares: Sequence[Share]) -> str:
        return self._counts.take(session_id, shares)

    def note(self, session_id: str, shares: Sequence[Share]) -> None:
        self._counts.note(session_id, shares)

    def give_back(self, session_id: str) -> None:
        self._counts.give_back(session_id)

    async def settled(self) -> None:
        pass


class Shares:
    """What each session of this process counts for; a bound of None is no bound.

    A session without a principal, or whose client address is not trusted, is not counted for it: behind a proxy that
    `--forwarded-allow` does not name all clients share one address.
    """

    def __init__(self, *, per_principal: int | None = None, per_address: int | None = None) -> None:
        self.counts: Counts = _OwnCounts()
        self._per_principal = per_principal
        self._per_address = per_address
        self._counted: set[str] = set()

    async def take(self, session_id: str, principal: Principal, address: str | None) -> None:
        """Count a session that is about to begin; raises TooManyForCaller, and TooManySessions when it cannot be counted now.

        It is to be given back, also when this raises.
        """
        shares = self._shares(principal, address)
        if not shares:
            return
        self._counted.add(session_id)
        full = await self.counts.take(session_id, shares)
        for share in shares:
            if share.kind == full:
                bound = share.bound
                raise TooManyForCaller(f"This {full} has {bound} sessions here, as many as it may: end one first")

    def note(self, session_id: str, principal: Principal, address: str | None = None) -> None:
        """Count a restored session, within the bounds or not; once, even if an earlier copy of it still ends here."""
        shares = self._shares(principal, address)
        if shares:
            self._counted.add(session_id)
            self.counts.note(session_id, shares)

    def give_back(self, session_id: str) -> None:
        """Count it no more: it ended, or never began. May be called more than once."""
        if session_id in self._counted:
            self._counted.discard(session_id)
            self.counts.give_back(session_id)

    async def settled(self) -> None:
        """Wait until what was given back counts no more: a peer that opens a session in its place may count it in the same node."""
        if self._per_principal is not None or self._per_address is not None:
            await self.counts.settled()

    def _shares(self, principal: Principal, address: str | None) -> list[Share]:
        shares: list[Share] = []
        if self._per_principal is not None and principal != ANONYMOUS:
            # A digest: the count does not need the names.
            shares.append(Share("principal", principal.digest, self._per_principal))
        if self._per_address is not None and address is not None:
            shares.append(Share("address", address, self._per_address))
        return shares
