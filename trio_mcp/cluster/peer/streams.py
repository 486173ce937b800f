"""The event streams that a node relays now. A node that stops tells each to end, so that none is cut off within an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

__all__ = ["OpenStreams", "RelayedStream"]

T = TypeVar("T")

_ID_FIELD = b"\nid:"


class RelayedStream:
    """A relayed event stream, and where its client is in it. The client resumes by event ids if it `heeds_ids`."""

    __slots__ = ("_heeds_ids", "_tail", "_waiting", "between_events", "resumable", "told_to_end")

    def __init__(self, *, resumable: bool, heeds_ids: bool) -> None:
        self.told_to_end: bool = False
        self.resumable: bool = resumable
        """Whether its client can get the rest with another request: it has an event id, or this is a GET, which answers no request."""
        self._heeds_ids = heeds_ids
        self.between_events: bool = True
        self._tail = b"\n"
        self._waiting: trio.CancelScope | None = None

    def passed(self, body: bytes) -> None:
        """Note that the client was sent this piece of the stream."""
        if not body:
            return
        near = self._tail + body
        # Encoded JSON has no line feed, so that this is always a field of an event.
        self.resumable = self.resumable or (self._heeds_ids and _ID_FIELD in near)
        self.between_events = near.endswith(b"\n\n")
        self._tail = near[-len(_ID_FIELD) + 1 :]

    def end(self) -> None:
        """Read no more of it. A write that has begun is completed."""
        self.told_to_end = True
        if self._waiting is not None:
            self._waiting.cancel("the stream is told to end")

    async def wait(self, more: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `more`; None when the stream is told to end before that."""
        with trio.CancelScope() as self._waiting:
            if self.told_to_end:
                return None
            return await more()
        return None


class OpenStreams:
    """All event streams that one node relays, and the requests that wait for the head of their response."""

    def __init__(self) -> None:
        self.waiting: dict[object, Callable[[], None]] = {}
        """For each of those requests, by its connection, a function that ends its wait."""
        self._open: dict[RelayedStream, None] = {}

    @contextmanager
    def open(self, *, resumable: bool, heeds_ids: bool) -> Iterator[RelayedStream]:
        """List a stream for the length of the block; see `RelayedStream`."""
        stream = RelayedStream(resumable=resumable, heeds_ids=heeds_ids)
        self._open[stream] = None
        try:
            yield stream
        finally:
            del self._open[stream]

    def enders(self) -> list[Callable[[], None]]:
        """Functions that each end one stream that its client can resume elsewhere, oldest first."""
        return [stream.end for stream in self._open if stream.resumable]

    def end_all(self) -> None:
        """End all streams, and each wait for a response."""
        for stream in list(self._open):
            stream.end()
        for give_up in list(self.waiting.values()):
            give_up()
