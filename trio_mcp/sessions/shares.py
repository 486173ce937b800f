"""How many sessions of a node one caller may have: counted by principal and by client address."""

from __future__ import annotations

from collections import Counter

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.protocol.errors import TooManySessions

__all__ = ["Shares", "TooManyForCaller"]


class TooManyForCaller(TooManySessions):
    """429 on `initialize`: this principal, or this address, has as many sessions here as it may."""


class Shares:
    """Counts sessions by principal and by client address; a bound of None is no bound.

    A session without a principal, or whose client address is not trusted, is not counted for it: behind a proxy that
    `--forwarded-allow` does not name all clients share one address.
    """

    def __init__(self, *, per_principal: int | None = None, per_address: int | None = None) -> None:
        self._bounds = {"principal": per_principal, "address": per_address}
        self._held: Counter[tuple[str, object]] = Counter()
        self._of: dict[str, list[tuple[str, object]]] = {}

    def take(self, session_id: str, principal: Principal, address: str | None) -> None:
        """Count a session that is about to begin; raises TooManyForCaller."""
        keys = self._keys(principal, address)
        for kind, who in keys:
            bound = self._bounds[kind]
            if bound is not None and self._held[kind, who] >= bound:
                raise TooManyForCaller(f"This {kind} has {bound} sessions here, as many as it may: end one first")
        self._count(session_id, keys)

    def note(self, session_id: str, principal: Principal) -> None:
        """Count a restored session, within the bounds or not; once, even if an earlier copy of it still ends here."""
        self.give_back(session_id)
        self._count(session_id, self._keys(principal, None))

    def give_back(self, session_id: str) -> None:
        """Count it no more: it ended, or never began. May be called more than once."""
        for key in self._of.pop(session_id, ()):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def _keys(self, principal: Principal, address: str | None) -> list[tuple[str, object]]:
        keys: list[tuple[str, object]] = []
        if self._bounds["principal"] is not None and principal != ANONYMOUS:
            keys.append(("principal", principal.identity))
        if self._bounds["address"] is not None and address is not None:
            keys.append(("address", address))
        return keys

    def _count(self, session_id: str, keys: list[tuple[str, object]]) -> None:
        if keys:
            self._of[session_id] = keys
            self._held.update(keys)
