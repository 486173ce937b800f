"""Connections with nothing to do, and how long they have had it."""

from __future__ import annotations

from itertools import takewhile
from typing import Protocol

import trio

__all__ = ["IdleConnections"]


class _Connection(Protocol):
    def dismiss(self) -> None:
        """End it unless something has come."""


class IdleConnections:
    """Ends connections that stay idle for `seconds`.

    All wait equally long, so they expire in the order they came: one task for all instead of a cancel scope for each,
    and nothing to move when a connection comes or goes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[_Connection, float] = {}

    def add(self, connection: _Connection) -> None:
        """`connection` waits for a request from now on; not one that is here already."""
        self._since[connection] = trio.current_time()

    def discard(self, connection: _Connection) -> None:
        """A request came, or the connection ended."""
        self._since.pop(connection, None)

    def dismiss_oldest(self) -> bool:
        """End the connection that has been idle for longest; False when none is."""
        for connection in self._since:
            self.discard(connection)
            connection.dismiss()
            return True
        return False

    def dismiss_all(self) -> None:
        """End every idle connection now."""
        while self._since:
            connection, _ = self._since.popitem()
            connection.dismiss()

    async def run(self) -> None:
        """Until cancelled. Whoever comes while it sleeps expires later than it wakes, so nobody need wake it."""
        while True:
            await trio.sleep_until(self._next_deadline())
            self._expire()

    def _next_deadline(self) -> float:
        for since in self._since.values():
            return since + self._seconds
        return trio.current_time() + self._seconds

    def _expire(self) -> None:
        now = trio.current_time()
        due = takewhile(lambda item: item[1] + self._seconds <= now, self._since.items())
        for connection, _ in list(due):
            del self._since[connection]
            connection.dismiss()
