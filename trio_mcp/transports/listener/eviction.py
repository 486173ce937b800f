"""Connections that make way when others need their place: those that are idle, and those that only linger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Protocol

import trio

__all__ = ["LINGER_SECONDS", "IdleConnections", "Lingering"]

LINGER_SECONDS = 10.0
"""Closing with unread bytes resets the connection and may destroy our last answer on its way: read on so long. Clients that
write a whole body before they read anything (http.client, requests) would report a broken pipe instead of the answer."""


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


class Lingering:
    """Counts them, and ends the oldest when its descriptor is needed. `began` is called with each that begins to linger."""

    def __init__(self, began: Callable[[], object]) -> None:
        self._began = began
        self._scopes: dict[trio.CancelScope, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many linger, with those that are being ended."""
        return self._count

    @contextmanager
    def linger(self) -> Iterator[None]:
        """The block reads on: for `LINGER_SECONDS`, or until its place is needed."""
        with trio.move_on_after(LINGER_SECONDS) as scope:
            self._count += 1
            self._scopes[scope] = None
            self._began()
            try:
                yield
            finally:
                self._count -= 1
                self._scopes.pop(scope, None)

    def end_oldest(self) -> bool:
        """End the one that has lingered for longest; False when none is left."""
        for scope in self._scopes:
            del self._scopes[scope]
            scope.cancel("its place is needed")
            return True
        return False
