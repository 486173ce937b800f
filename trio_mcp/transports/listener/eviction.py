"""How many connections there are, and which are closed when others need their place: the idle, and those that linger after their last answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Protocol

import trio

__all__ = ["LINGER_SECONDS", "IdleConnections", "Lingering", "OpenConnections"]

LINGER_SECONDS = 10.0
"""How long a connection is read after its last answer. A close with unread bytes resets the connection, which may destroy the answer on
its way: clients that write a whole body before they read anything (http.client, requests) would report a broken pipe instead."""


class _Connection(Protocol):
    def dismiss(self) -> None:
        """Close it, unless a request has come."""

    def leave(self) -> None:
        """Have it go to another process, if it can."""


class OpenConnections:
    """Counts the connections that are served here; `most` is their bound, None where there is none."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._count = 0
        self.changed: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        """Accepting waits here until a connection ends, or begins to linger."""

    def begin(self) -> None:
        """There is one more."""
        self._count += 1

    def end(self) -> None:
        """There is one less."""
        self._count -= 1
        if self.changed:
            self.changed.unpark_all()

    def beyond(self, excess: int, *, but: int = 0) -> bool:
        """Whether there are at least `excess` more than the bound, `but` of them not counted."""
        return self._most is not None and self._count - but >= self._most + excess


class IdleConnections:
    """Closes connections that stay idle for `seconds`.

    All wait equally long, so they expire in the order in which they became idle: one task serves all, and no connection needs a
    cancel scope of its own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[_Connection, float] = {}

    def add(self, connection: _Connection) -> None:
        """`connection` begins to wait for a request. It must not be waiting already."""
        self._since[connection] = trio.current_time()

    def discard(self, connection: _Connection) -> None:
        """A request has come, or the connection has ended."""
        self._since.pop(connection, None)

    def dismiss_oldest(self) -> bool:
        """Close the connection that has been idle for longest; False when none is idle."""
        for connection in self._since:
            self.discard(connection)
            connection.dismiss()
            return True
        return False

    def dismiss_all(self) -> None:
        """Close every idle connection."""
        while self._since:
            connection, _ = self._since.popitem()
            connection.dismiss()

    def leave_all(self) -> None:
        """Have every idle connection go to another process."""
        for connection in self._since:
            connection.leave()

    async def run(self) -> None:
        """Close connections as they expire, until cancelled.

        One that becomes idle while this sleeps expires later than this wakes, so `add` need not wake it.
        """
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
    """Counts the lingering connections, and ends the oldest when its descriptor is needed.

    `began` is called each time a connection begins to linger.
    """

    def __init__(self, began: Callable[[], object]) -> None:
        self._began = began
        self._scopes: dict[trio.CancelScope, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many linger, including those that are being ended."""
        return self._count

    @contextmanager
    def linger(self) -> Iterator[None]:
        """For the block that reads on: it is cancelled after LINGER_SECONDS, or by `end_oldest`."""
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
        """End the connection that has lingered for longest; False when none lingers."""
        for scope in self._scopes:
            del self._scopes[scope]
            scope.cancel("its place is needed")
            return True
        return False
