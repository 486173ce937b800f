"""The calls of one session: which run, how many may, and when none begins.

request ──check_room──▶ add ──▶ runs ──▶ remove ──▶ wait_done returns when none is left
        paused: wait_resumed, at most PAUSE_SECONDS, so that those in flight come to an end
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from trio_mcp.dispatch.call import Call, Ending
from trio_mcp.protocol.errors import INVALID_REQUEST, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import Request, RequestId, is_request_id

__all__ = ["PAUSE_SECONDS", "Calls", "TooManyRequests"]

PAUSE_SECONDS = 10.0
"""How long a request waits while calls are paused; then it runs all the same. A drain never pauses them for this long."""


class TooManyRequests(RemoteProtocolError):
    """429: the session has as many requests in flight as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(INVALID_REQUEST, f"More than {limit} requests of this session are in flight")


class Calls:
    """Requests that have no answer yet, by their id, and those that wait while calls are paused."""

    __slots__ = ("_in_flight", "_limit", "_none_in_flight", "_resumed", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight: dict[RequestId, Call] = {}
        self._none_in_flight = trio.lowlevel.ParkingLot()
        self._resumed: trio.Event | None = None
        """Set when calls may begin again; None unless they are paused."""
        self._waiting: dict[RequestId | None, trio.CancelScope] = {}

    def __len__(self) -> int:
        """How many calls are in flight."""
        return len(self._in_flight)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._in_flight

    @property
    def oldest(self) -> float:
        """When the oldest of those in flight began (trio clock); infinite when there is none."""
        return min((call.started for call in self._in_flight.values()), default=math.inf)

    def check_room(self, requests: Sequence[Request]) -> None:
        """Check that all `requests` of one POST may begin, before any of them does.

        Raises TooManyRequests, and RemoteProtocolError for an id that is in flight already.

        "The request ID MUST NOT have been previously used by the requestor within the same session." 2025-11-25 basic
        """
        if len(self._in_flight) + len(requests) > self._limit:
            raise TooManyRequests(self._limit)
        ids = {request.id for request in requests}
        if len(ids) < len(requests) or not self._in_flight.keys().isdisjoint(ids):
            raise RemoteProtocolError(INVALID_REQUEST, "A request with this id is in flight already")

    def add(self, call: Call) -> None:
        """A call begins."""
        self._in_flight[call.request_id] = call

    def remove(self, call: Call) -> None:
        """A call has its answer."""
        del self._in_flight[call.request_id]
        if not self._in_flight:
            self._none_in_flight.unpark_all()

    async def wait_done(self) -> None:
        """Wait until no call is in flight."""
        # Between the look and the parking nothing else runs, so no waiter can miss the end of the last call.
        while self._in_flight:
            await self._none_in_flight.park()

    def cancel(self, request_id: Any) -> None:
        """The client cancels a call (basic/utilities/cancellation); anything but the id of one is ignored."""
        if not is_request_id(request_id):
            return
        if request_id in self._in_flight:
            self._in_flight[request_id].cancel(Ending.CANCELLED)
        elif request_id in self._waiting:
            self._waiting[request_id].cancel("the client cancelled the request")

    def cancel_all(self, ending: Ending) -> None:
        """The session ends: every call is answered with the error that `ending` stands for."""
        for call in list(self._in_flight.values()):
            call.cancel(ending)

    @property
    def paused(self) -> bool:
        """Whether new requests are to wait in `wait_resumed`."""
        return self._resumed is not None

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Pause calls for the length of the block."""
        self._resumed = resumed = trio.Event()
        try:
            yield
        finally:
            self._resumed = None
            resumed.set()

    def pause(self) -> None:
        """Let no more calls begin until `resume`."""
        self._resumed = self._resumed or trio.Event()

    def resume(self) -> None:
        """Let the requests that wait go on; where the session has ended they get its 404."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def wait_resumed(self, request_id: RequestId | None) -> bool:
        """Wait while calls are paused, `PAUSE_SECONDS` at most; False when the client cancels this one meanwhile."""
        with trio.move_on_after(PAUSE_SECONDS) as waiting:
            self._waiting[request_id] = waiting
            try:
                while self._resumed is not None:
                    await self._resumed.wait()
            finally:
                self._waiting.pop(request_id, None)
        return not waiting.cancelled_caught or trio.current_time() >= waiting.deadline
