"""Connections that are over for us, and read on a little so that their peers see the last answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

__all__ = ["LINGER_SECONDS", "Lingering"]

LINGER_SECONDS = 10.0
"""Closing with unread bytes resets the connection and may destroy our last answer on its way: read on so long. Clients that
write a whole body before they read anything (http.client, requests) would report a broken pipe instead of the answer."""


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
