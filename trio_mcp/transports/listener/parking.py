"""Connections that this process has served, another one of the node serves now, and that are likely to come back: how many, and how long.

A parked connection keeps its task, its objects and its descriptor. The kernel ends a connection when its last descriptor is closed, so
that parked ones are released as soon as another process has ended, and those that nobody sends back after a few seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import trio

from trio_mcp.transports.listener.eviction import OpenConnections
from trio_mcp.transports.listener.moving import Moved, Mover

__all__ = ["MOST_PARKED", "MOST_PLACES", "PARKED_SECONDS", "TRUSTED_SECONDS", "Parking"]

MOST_PARKED = 256
"""In one process, of some 8 KB each."""
MOST_PLACES = 7
"""Processes in which one connection is parked at most: the message with which it moves names them."""
PARKED_SECONDS = 5.0
"""What has not come back then is released."""
TRUSTED_SECONDS = 4.0
"""A connection that has left a process for longer is sent there with its descriptor, for it may be parked there no more."""


class _Parked(Protocol):
    def come_back(self, moved: Moved) -> None:
        """It is here again."""

    def release(self) -> None:
        """Close it here."""


class Parking:
    """Implements `Receiver`. `serve` serves a connection that is not parked here; `opened` counts those that are served."""

    def __init__(self, mover: Mover, opened: OpenConnections, serve: Callable[[Moved, socket.socket], None]) -> None:
        self.mover: Mover = mover
        self._opened = opened
        self._serve = serve
        self._takes = True
        self._parks = True
        self._parked: dict[int, tuple[_Parked, float]] = {}
        """By key, the one that left first in front, and when each has to be released."""
        self._some = trio.lowlevel.ParkingLot()
        """Where `run` waits until there are any."""

    def take(self, moved: Moved, connected: socket.socket | None) -> bool:
        """See `Receiver`."""
        if not self._takes or self._opened.beyond(1):
            return False
        parked = self._parked.get(moved.key)
        if parked is not None:
            if connected is not None:
                connected.close()
            parked[0].come_back(moved)
        elif connected is not None:
            self.came()
            self._serve(moved, connected)
        else:
            return False
        return True

    def release_parked(self) -> None:
        """See `Receiver`."""
        for parked, _ in list(self._parked.values()):
            parked.release()

    def park_no_more(self) -> None:
        """Release all: this process ends, or is replaced."""
        self._parks = False
        self.release_parked()

    def take_no_more(self) -> None:
        """The server stops. What was sent and not taken still comes back."""
        self._takes = False
        self.park_no_more()

    @property
    def has_room(self) -> bool:
        """Whether a connection that is served may be parked: both together are no more than may be served."""
        parked = len(self._parked)
        return self._parks and parked < MOST_PARKED and not self._opened.beyond(1 - parked)

    def left(self, key: int, parked: _Parked | None) -> None:
        """The connection is not served here any more; with `parked` it may come back from where it goes."""
        self._opened.end()
        if parked is not None:
            self._parked[key] = parked, trio.current_time() + PARKED_SECONDS
            if self._some:
                self._some.unpark()

    def came(self) -> None:
        """A connection that left, or has come, is served here."""
        self._opened.begin()
        self.make_room()

    def make_room(self) -> None:
        """One more is served: release what left first if they and the parked ones together are now more than may be served."""
        if self._parked and self._opened.beyond(1 - len(self._parked)):
            parked, _ = next(iter(self._parked.values()))
            parked.release()

    def discard(self, key: int) -> None:
        """That connection is not parked any more."""
        self._parked.pop(key, None)

    async def run(self) -> None:
        """Release those that do not come back, until cancelled."""
        while True:
            if not self._parked:
                await self._some.park()
            await trio.sleep_until(self._next_deadline())
            now = trio.current_time()
            for parked, until in list(self._parked.values()):
                if until <= now:
                    parked.release()

    def _next_deadline(self) -> float:
        for _, until in self._parked.values():
            return until
        return trio.current_time() + PARKED_SECONDS
