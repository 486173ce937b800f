"""Requests that were read from a channel and wait for their turn: in order, counted for the node's memory, and cancelled by id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from trio_mcp.protocol.errors import INVALID_REQUEST, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import RequestId
from trio_mcp.streams.account import SMALL, Account

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
    """At most `width` requests run; the others wait, `room` bytes of them at most, and `account` counts them.

    `counts_running`: `account` counts large requests while they run, too. That is for channels of which there are many.
    """

    def __init__(self, width: int, account: Account, *, room: int, counts_running: bool = False) -> None:
        self._width = width
        self._account = account
        self._room = room
        self._counts_running = counts_running
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._running = 0
        self._ended = trio.Event()
        """Set when a request has ended, so that another may begin."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether nothing more should be read: requests wait, and they have used up their room, or memory is short."""
        return bool(self._waiting) and (self._overfull or self._account.short)

    @property
    def _overfull(self) -> bool:
        return self._bytes >= self._room

    def add(self, id: RequestId, size: int, begin: Callable[[], None], drop: Callable[[], None]) -> None:
        """Call `begin` when it is the turn of this request of `size` bytes, perhaps at once; or `drop` if it is cancelled before.

        Raises RemoteProtocolError where there is no room for it.
        """
        if self._running < self._width and not self._waiting:
            self._begin(size, begin)
            return
        if not self._room:
            raise RemoteProtocolError(INVALID_REQUEST, f"More than {self._width} requests are in flight")
        if self._overfull:
            raise RemoteProtocolError(INVALID_REQUEST, "Too many requests wait; answer what was asked first")
        weight = size + _REQUEST_BYTES
        self._waiting.append(_Waiting(id, weight, begin, drop))
        self._count(weight)

    def ended(self, size: int) -> None:
        """Note that one of those that ran has its answer; `size` as in `add`."""
        self._running -= 1
        if self._counts_running and size > SMALL:
            self._account.release_request(size)
        self._ended.set()

    async def next_end(self) -> None:
        """Wait until a request has its answer."""
        await self._ended.wait()

    async def run(self) -> None:
        """Begin waiting requests as others end. A task of its own: at the place where a request ends, it still counts for its session."""
        while True:
            await self._ended.wait()
            self._ended = trio.Event()
            self._begin_waiting()

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

    def _begin_waiting(self) -> None:
        while self._waiting and self._running < self._width:
            request = self._waiting.popleft()
            self._count(-request.size)
            self._begin(request.size - _REQUEST_BYTES, request.begin)

    def _begin(self, size: int, begin: Callable[[], None]) -> None:
        self._running += 1
        if self._counts_running and size > SMALL:
            self._account.charge_request(size)
        begin()

    def _count(self, weight: int) -> None:
        # Charged as requests: running calls must not wait for room that is only given back when they end.
        self._bytes += weight
        if weight > 0:
            self._account.charge_request(weight)
        else:
            self._account.release_request(-weight)
