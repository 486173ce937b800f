"""Which request bodies may be received while the node is short of memory, and in which order those that wait follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

__all__ = ["Bodies", "WaitingBody"]


@dataclass(slots=True, eq=False)
class WaitingBody:
    """A body that has begun to arrive and is not read further for want of room."""

    size: int
    received: int
    """Bytes of it that are here already."""
    admitted: bool = False
    decided: trio.Event = field(default_factory=trio.Event)

    def decide(self, *, admitted: bool) -> None:
        """Let it be read (`admitted`), or give it up."""
        self.admitted = admitted
        self.decided.set()


class Bodies:
    """Bodies that are being received reserve their whole size, `room` bytes together. Of those that wait the smallest is next.

    The received bytes of those that wait may be as many; beyond that the largest of them is given up.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._reserved = 0
        self._received = 0
        self._waiting: dict[WaitingBody, None] = {}

    def __len__(self) -> int:
        """How many bodies wait."""
        return len(self._waiting)

    def fits(self, size: int) -> bool:
        """Whether a new body of `size` bytes may be received now: there is room, and none that waits is as small."""
        return self._has_room(size) and not any(body.size <= size for body in self._waiting)

    @property
    def missing(self) -> int:
        """Bytes that must be given back before the next one may be received."""
        body = self._next
        return 0 if body is None or self._has_room(body.size) else self._reserved + body.size - self._room

    @contextmanager
    def waiting(self, size: int, received: int) -> Iterator[WaitingBody]:
        """A body of `size` bytes, of which `received` are here, waits for the length of the block, or until it is decided."""
        body = WaitingBody(size, received)
        self._waiting[body] = None
        self._received += received
        while self._received > self._room:
            self._decide(max(self._waiting, key=lambda each: each.size), admitted=False)
        try:
            yield body
        finally:
            if body in self._waiting:
                self._leave(body)

    @contextmanager
    def receiving(self, size: int) -> Iterator[None]:
        """A body of `size` bytes is being received for the length of the block."""
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    def admit(self) -> None:
        """Let the next one be read, if there is room. One at a time: its size is reserved only when its task runs."""
        body = self._next
        if body is not None and self._has_room(body.size):
            self._decide(body, admitted=True)

    @property
    def _next(self) -> WaitingBody | None:
        return min(self._waiting, key=lambda body: body.size, default=None)

    def _has_room(self, size: int) -> bool:
        return self._reserved + size <= self._room or not self._reserved

    def _decide(self, body: WaitingBody, *, admitted: bool) -> None:
        self._leave(body)
        body.decide(admitted=admitted)

    def _leave(self, body: WaitingBody) -> None:
        del self._waiting[body]
        self._received -= body.received
