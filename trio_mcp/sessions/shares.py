"""How many of a node's sessions one caller may have."""

from __future__ import annotations

from collections import Counter

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.protocol.errors import TooManySessions

__all__ = ["Shares", "TooManyForCaller"]


class TooManyForCaller(TooManySessions):
    """429 on `initialize`: this principal, or this address, has as many sessions here as it may."""


class Shares:
    """Counts sessions by principal and by client address. A bound of None is none.

    Sessions without a principal, or without an address that can be believed, count for nobody: behind a proxy that is not named
    all clients share one address.
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
        """Count a session that goes on here, within the bounds or not; one whose earlier copy still ends here only once."""
        self.give_back(session_id)
        self._count(session_id, self._keys(principal, None))

    def give_back(self, session_id: str) -> None:
        """It ended, or never began; more than once is fine."""
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
