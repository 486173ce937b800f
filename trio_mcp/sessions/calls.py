"""The calls of one session: which run, in which tasks, how many may, and when none begins.

request ──check_room──▶ next_task ──▶ start: in flight, runs ──▶ no more in flight; wait_done returns when none is left
        paused: wait_resumed, at most PAUSE_SECONDS, so that those in flight come to an end

next_task ──▶ a task that waits, or a new one ──▶ runs its call ─┬─ the session is busy ──▶ waits, its cancel scope kept
                                                                └─ it is not ────────────▶ ends

To start a task for a call costs 13 microseconds, to wake one that waits 9, and its cancel scope is there already. A task that waits has 5 KB:
so only a session whose requests follow each other closely has any, and only as long as they do.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from trio_mcp.dispatch.call import Call, CallScope, Ending
from trio_mcp.dispatch.dispatcher import KeptScope, respond
from trio_mcp.protocol.errors import INVALID_REQUEST, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import Request, RequestId, is_request_id

__all__ = ["BUSY_SECONDS", "MOST_WAITING", "PAUSE_SECONDS", "CallTask", "CallTasks", "Calls", "TooManyRequests"]

PAUSE_SECONDS = 10.0
"""How long a request waits while calls are paused; then it runs all the same. A drain never pauses them for this long."""


BUSY_SECONDS = 1.0
"""A session is busy when a request comes within this time after the end of its last call. A task that was not needed for so long ends."""

MOST_WAITING = 32
"""Tasks of one session that wait: as many as one client usually has requests at once. Further ones end with their call."""


class TooManyRequests(RemoteProtocolError):
    """429: the session has as many requests in flight as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(INVALID_REQUEST, f"More than {limit} requests of this session are in flight")


class Calls:
    """Requests that have no answer yet, by their id, and those that wait while calls are paused."""

    __slots__ = ("_in_flight", "_limit", "_none_in_flight", "_waiting", "resumed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight: dict[RequestId, Call] = {}
        self._none_in_flight = trio.lowlevel.ParkingLot()
        self.resumed: trio.Event | None = None
        """Not None while calls are paused, and new requests are to wait in `wait_resumed`; set when they may begin again."""
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

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Pause calls for the length of the block."""
        self.resumed = resumed = trio.Event()
        try:
            yield
        finally:
            self.resumed = None
            resumed.set()

    def pause(self) -> None:
        """Let no more calls begin until `resume`."""
        self.resumed = self.resumed or trio.Event()

    def resume(self) -> None:
        """Let the requests that wait go on; where the session has ended they get its 404."""
        if self.resumed is not None:
            self.resumed.set()
            self.resumed = None

    async def wait_resumed(self, request_id: RequestId | None) -> bool:
        """Wait while calls are paused, `PAUSE_SECONDS` at most; False when the client cancels this one meanwhile."""
        with trio.move_on_after(PAUSE_SECONDS) as waiting:
            self._waiting[request_id] = waiting
            try:
                while self.resumed is not None:
                    await self.resumed.wait()
            finally:
                self._waiting.pop(request_id, None)
        return not waiting.cancelled_caught or trio.current_time() >= waiting.deadline


class CallTasks:
    """The tasks that run the calls of a session, in its nursery. Each call has a copy of `variables` as its context variables.

    After each, `ended` is called with the time (trio clock), and with the seconds after which `end_unused` should be called.
    """

    __slots__ = ("_busy", "_fewest", "_last_over", "_waiting", "calls", "ended", "nursery", "variables")

    def __init__(
        self, calls: Calls, nursery: trio.Nursery, variables: contextvars.Context, ended: Callable[[float, float], None]
    ) -> None:
        self.calls: Calls = calls
        self.nursery: trio.Nursery = nursery
        self.variables: contextvars.Context = variables
        self.ended: Callable[[float, float], None] = ended
        self._last_over = -math.inf
        """When the last call ended (trio clock)."""
        self._busy = False
        """Whether a task whose call is over waits for another one."""
        self._waiting: list[CallTask] = []
        """The one that began to wait last is taken first, so that those in front are the ones that are not needed."""
        self._fewest = 0
        """How many have been waiting all the time since `end_unused` was called last."""

    def next_task(self, now: float) -> CallTask:
        """The task for a request that comes `now` (trio clock)."""
        self._busy = now < self._last_over + BUSY_SECONDS
        if not self._waiting:
            return CallTask(self)
        task = self._waiting.pop()
        self._fewest = min(self._fewest, len(self._waiting))
        task.renew_scope()
        return task

    def keeps(self, task: CallTask) -> bool:
        """Whether `task`, whose call is over, is to wait for another one. Then `next_task` may return it from now on."""
        if not self._busy or len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(task)
        return True

    def forget(self, task: CallTask) -> None:
        """`task` was cancelled while it waited: do not return it from `next_task`."""
        self._waiting.remove(task)
        self._fewest = min(self._fewest, len(self._waiting))

    def over(self, call: Call) -> None:
        """A call has its answer."""
        self.calls.remove(call)
        self._last_over = call.ended
        self.ended(call.ended, BUSY_SECONDS if self._busy else math.inf)

    def end_unused(self) -> float:
        """End those that were not needed since this was called last; when to call it again (trio clock)."""
        unused, self._waiting = self._waiting[: self._fewest], self._waiting[self._fewest :]
        for task in unused:
            task.end()
        self._fewest = len(self._waiting)
        return trio.current_time() + BUSY_SECONDS if self._waiting else math.inf


class CallTask:
    """Runs one call after the other. The first has a cancel scope of its own, the others the one that is kept."""

    __slots__ = ("_call", "_kept", "_task", "_tasks", "scope")

    def __init__(self, tasks: CallTasks) -> None:
        self.scope: CallScope = trio.CancelScope()
        """Of the call to `start`."""
        self._tasks = tasks
        self._kept: KeptScope | None = None
        self._task: trio.lowlevel.Task | None = None
        self._call: Call | None = None
        """The one to run next; None: it is to end."""

    def renew_scope(self) -> None:
        """Get a scope for the next call."""
        assert self._kept is not None
        self.scope = self._kept.lend()

    def start(self, call: Call) -> None:
        """Run `call`, which is in flight from now on."""
        self._tasks.calls.add(call)
        self._call = call
        # Not the present task's context: the handler must not inherit the variables of this HTTP request.
        variables = self._tasks.variables.copy()
        if self._task is None:
            variables.run(self._tasks.nursery.start_soon, self._run)
        else:
            self._task.context = variables
            trio.lowlevel.reschedule(self._task)

    def end(self) -> None:
        """End, as it waits."""
        assert self._task is not None
        trio.lowlevel.reschedule(self._task)

    async def _run(self) -> None:
        await self._run_next()
        self._task = trio.lowlevel.current_task()
        if not self._tasks.keeps(self):
            return
        with KeptScope() as self._kept:
            await trio.lowlevel.wait_task_rescheduled(self._cancelled)
            while self._call is not None:
                await self._run_next()
                if not self._tasks.keeps(self):
                    return
                await trio.lowlevel.wait_task_rescheduled(self._cancelled)

    async def _run_next(self) -> None:
        # Nothing of a call is kept while the task waits.
        call, self._call = self._call, None
        assert call is not None
        try:
            await respond(call)
        finally:
            self._tasks.over(call)

    def _cancelled(self, _: object) -> trio.lowlevel.Abort:
        # At once, not when it runs next: a request that comes before that needs another task.
        self._tasks.forget(self)
        return trio.lowlevel.Abort.SUCCEEDED
