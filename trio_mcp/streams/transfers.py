"""Bytes on their way to or from connections that make the node wait, and how fast each connection moves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from trio_mcp.streams.relief import OBSERVE_SECONDS, Connection

__all__ = ["Transfer", "Transfers"]


class Transfer:
    """Bytes on their way to or from one connection."""

    __slots__ = ("began", "body", "cut", "held", "moved", "scope", "seen_at", "seen_moved")

    def __init__(self, held: int, *, body: bool = False) -> None:
        self.held: int = held
        self.body: bool = body
        self.began: float = trio.current_time()
        self.moved: int = 0
        self.scope: trio.CancelScope = trio.CancelScope()
        self.cut: bool = False
        """It was given up for want of room."""
        self.seen_at: float | None = None
        self.seen_moved: int = 0

    def progress(self, count: int) -> None:
        """The connection took or sent `count` bytes."""
        self.moved += count

    def give_up(self) -> None:
        """Stop waiting for this connection."""
        self.cut = True
        self.scope.cancel("too slow while memory is short")


class Transfers:
    """All transfers that are under way, in the order in which they began."""

    def __init__(self) -> None:
        self._under_way: dict[Transfer, None] = {}

    @contextmanager
    def of(self, held: int, *, body: bool) -> Iterator[Transfer]:
        """A transfer of `held` bytes for the length of the block, which is cancelled when it is given up."""
        transfer = Transfer(held, body=body)
        self._under_way[transfer] = None
        try:
            with transfer.scope:
                yield transfer
        finally:
            del self._under_way[transfer]

    def observe(self, now: float) -> list[Connection]:
        """How far each has moved in the window in which it is watched; `now` is on the trio clock."""
        return [_observed(transfer, now) for transfer in self._under_way]

    def numbered(self, indexes: Sequence[int]) -> list[Transfer]:
        """Those with these indexes in the result of `observe`."""
        if not indexes:
            return []
        transfers = list(self._under_way)
        return [transfers[index] for index in indexes]


def _observed(transfer: Transfer, now: float) -> Connection:
    """The connection in its window. For a connection that is not slow a new window begins: an early burst must not hide a later stall."""
    if transfer.seen_at is None:
        transfer.seen_at, transfer.seen_moved = now, transfer.moved
    connection = Connection(
        transfer.held,
        transfer.moved - transfer.seen_moved,
        now - transfer.seen_at,
        left=max(0, transfer.held - transfer.moved) if transfer.body else None,
        age=now - transfer.began,
    )
    if connection.watched >= OBSERVE_SECONDS and not (connection.slow or connection.late):
        transfer.seen_at, transfer.seen_moved = now, transfer.moved
    return connection
