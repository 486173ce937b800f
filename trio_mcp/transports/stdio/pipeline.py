"""Requests that were read from a pipe and have yet to begin: in order, counted, and cancelled by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from trio_mcp.protocol.jsonrpc import RequestId
from trio_mcp.streams.account import Account

__all__ = ["Pipeline"]

_REQUEST_BYTES = 2 * 1024
"""What a decoded request weighs besides the bytes it came as (measured)."""


@dataclass(slots=True, eq=False)
class _Waiting:
    id: RequestId
    size: int
    begin: Callable[[], None]
    drop: Callable[[], None]


class Pipeline:
    """At most `width` requests run; the others wait, and what they weigh counts for `account`."""

    def __init__(self, width: int, account: Account) -> None:
        self._width = width
        self._account = account
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self.running: int = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether nothing more should be read: as many run as may, and what waits has used up its share, or memory is short."""
        return bool(self._waiting) and (self.overfull or self._account.short)

    @property
    def overfull(self) -> bool:
        """Whether what waits has used up its share."""
        return self._bytes >= self._account.share

    def add(self, id: RequestId, size: int, begin: Callable[[], None], drop: Callable[[], None]) -> None:
        """Have `begin` called when it is this request's turn, perhaps now; `drop` when it is cancelled before that."""
        if self.running < self._width and not self._waiting:
            self.running += 1
            begin()
            return
        weight = size + _REQUEST_BYTES
        self._waiting.append(_Waiting(id, weight, begin, drop))
        self._count(weight)

    def ended(self) -> None:
        """One that ran has its answer, or never began."""
        self.running -= 1

    def begin_waiting(self) -> None:
        """Begin as many as may run."""
        while self._waiting and self.running < self._width:
            request = self._waiting.popleft()
            self._count(-request.size)
            self.running += 1
            request.begin()

    def cancel(self, id: RequestId) -> bool:
        """Drop the request with this id; False when none waits under it."""
        for request in self._waiting:
            if request.id == id and type(request.id) is type(id):
                self._waiting.remove(request)
                self._count(-request.size)
                request.drop()
                return True
        return False

    def clear(self) -> None:
        """Drop them all without a word."""
        self._waiting.clear()
        self._count(-self._bytes)

    def _count(self, weight: int) -> None:
        # As requests: those that run must not wait for room that only their end gives back.
        self._bytes += weight
        if weight > 0:
            self._account.charge_request(weight)
        else:
            self._account.release_request(-weight)
