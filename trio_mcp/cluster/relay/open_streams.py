"""The event streams a node relays now: each can be told to end, so that a node that stops leaves none to be cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

__all__ = ["OpenStreams", "RelayedStream"]

T = TypeVar("T")


class RelayedStream:
    """One of them."""

    __slots__ = ("_waiting", "told_to_end")

    def __init__(self) -> None:
        self.told_to_end = False
        self._waiting: trio.CancelScope | None = None

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
    """All of one node."""

    def __init__(self) -> None:
        self._open: dict[RelayedStream, None] = {}

    @contextmanager
    def open(self) -> Iterator[RelayedStream]:
        """One more for the length of the block."""
        stream = RelayedStream()
        self._open[stream] = None
        try:
            yield stream
        finally:
            del self._open[stream]

    def enders(self) -> list[Callable[[], None]]:
        """What ends each that is open now, oldest first."""
        return [stream.end for stream in self._open]
