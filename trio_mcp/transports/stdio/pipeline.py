"""Requests that were read from stdin and wait for their turn: in order, counted for the node's memory, and cancelled by id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from trio_mcp.protocol.jsonrpc import RequestId
from trio_mcp.streams.account import Account

__all__ = ["Pipeline"]

_REQUEST_BYTES = 2 * 1024
"""What a decoded request takes in memory besides its bytes (measured)."""


@dataclass(slots=True, eq=False)
class _Waiting:
    id: RequestId
    size: int
    begin: Callable[[], None]
    drop: Callable[[], None]


class Pipeline:
    """At most `width` requests run; the others wait, and `account` counts their bytes."""

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
        """Whether nothing more should be read: requests wait, and they have used up their share, or memory is short."""
        return bool(self._waiting) and (self.overfull or self._account.short)

    @property
    def overfull(self) -> bool:
        """Whether the requests that wait have used up their share of the account."""
        return self._bytes >= self._account.share

    def add(self, id: RequestId, size: int, begin: Callable[[], None], drop: Callable[[], None]) -> None:
        """Call `begin` when it is the turn of this request of `size` bytes, perhaps at once; or `drop` if it is cancelled before."""
        if self.running < self._width and not self._waiting:
            self.running += 1
            begin()
            return
        weight = size + _REQUEST_BYTES
        self._waiting.append(_Waiting(id, weight, begin, drop))
        self._count(weight)

    def ended(self) -> None:
        """Note that one of those that ran has its answer."""
        self.running -= 1

    def begin_waiting(self) -> None:
        """Begin as many of those that wait as may run."""
        while self._waiting and self.running < self._width:
            request = self._waiting.popleft()
            self._count(-request.size)
            self.running += 1
            request.begin()

    def cancel(self, id: RequestId) -> bool:
        """Drop the request that waits under `id`; False when there is none."""
        for request in self._waiting:
            if request.id == id and type(request.id) is type(id):
                self._waiting.remove(request)
                self._count(-request.size)
                request.drop()
                return True
        return False

    def clear(self) -> None:
        """Forget all that wait, without calling `drop`."""
        self._waiting.clear()
        self._count(-self._bytes)

    def _count(self, weight: int) -> None:
        # Charged as requests: running calls must not wait for room that is only given back when they end.
        self._bytes += weight
        if weight > 0:
            self._account.charge_request(weight)
        else:
            self._account.release_request(-weight)
