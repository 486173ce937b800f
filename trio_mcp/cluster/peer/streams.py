"""What a node relays now: each can be told to end, so that a node that stops leaves none to be cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

__all__ = ["OpenStreams", "RelayedStream"]

T = TypeVar("T")

_ID_FIELD = b"\nid:"


class RelayedStream:
    """An event stream, and what its client has seen of it."""

    __slots__ = ("_heeds_ids", "_tail", "_waiting", "between_events", "resumable", "told_to_end")

    def __init__(self, *, resumable: bool, heeds_ids: bool) -> None:
        self.told_to_end: bool = False
        self.resumable: bool = resumable
        """Its client can come back for the rest: by an event id, or because nothing in particular is due."""
        self._heeds_ids = heeds_ids
        self.between_events: bool = True
        self._tail = b"\n"
        self._waiting: trio.CancelScope | None = None

    def passed(self, body: bytes) -> None:
        """The client was sent this piece of it."""
        if not body:
            return
        near = self._tail + body
        # JSON holds no line feed: what looks like a field is one.
        self.resumable = self.resumable or (self._heeds_ids and _ID_FIELD in near)
        self.between_events = near.endswith(b"\n\n")
        self._tail = near[-len(_ID_FIELD) + 1 :]

    def end(self) -> None:
        """Wait for nothing more; what is being written is written."""
        self.told_to_end = True
        if self._waiting is not None:
            self._waiting.cancel("the stream is told to end")

    async def wait(self, more: Callable[[], Awaitable[T]]) -> T | None:
        """What `more` returns; None when the stream is told to end first."""
        with trio.CancelScope() as self._waiting:
            if self.told_to_end:
                return None
            return await more()
        return None


class OpenStreams:
    """All of one node; and the requests that still wait for the head of their response."""

    def __init__(self) -> None:
        self.waiting: set[Callable[[], None]] = set()
        """What gives up the wait for each response that has not begun."""
        self._open: dict[RelayedStream, None] = {}

    @contextmanager
    def open(self, *, resumable: bool, heeds_ids: bool) -> Iterator[RelayedStream]:
        """One more stream for the length of the block; its client may come back by an event id if it `heeds_ids`."""
        stream = RelayedStream(resumable=resumable, heeds_ids=heeds_ids)
        self._open[stream] = None
        try:
            yield stream
        finally:
            del self._open[stream]

    def enders(self) -> list[Callable[[], None]]:
        """What ends each stream that can be resumed elsewhere, oldest first."""
        return [stream.end for stream in self._open if stream.resumable]

    def end_all(self) -> None:
        """End every stream, and whatever waits for a response."""
        for stream in list(self._open):
            stream.end()
        for give_up in list(self.waiting):
            give_up()
