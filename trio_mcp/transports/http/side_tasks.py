"""Tasks beside those of the exchanges: one clock for all of them, and a task for the few that need a second one.

    exchange ──begin──▶ HoldBackClock   one task, one queue: the oldest held-back head is first, for all wait equally long
                             └─ time is up: calls back, and the exchange begins a stream

    exchange ──start──▶ SideTask in the front's nursery        (who streams while a modern handler runs in the exchange's task;
        │                   └─ fails: calls back, at once       who waits for a disconnect where the server tells of none)
        ├─ finished: waits for it, raises what it raised
        └─ dismiss: cancels it, and waits until it has stopped

A timer and a nursery for each exchange would be the plain way. They cost a sixth of a whole call, and few exchanges need
them: most replies come at once, as JSON. An exchange that starts a side task keeps the promise that a nursery makes: the task
does not outlive it, and fails where it would have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from trio_mcp.streams.event_log import Answer, EventLog

__all__ = ["DISMISSAL_SECONDS", "HeldHead", "HoldBackClock", "SideTask", "SideTasks"]

DISMISSAL_SECONDS = 1.0
"""For the cleanup of a cancelled side task, which awaits nothing: reached only by a bug."""


class SideTask:
    """One task, as its exchange holds it."""

    __slots__ = ("_ended", "_failure", "_scope")

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._failure: Exception | None = None
        self._scope = trio.CancelScope()

    async def run(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> None:
        """Run `fn`; what it raises is kept for `finished`, and `on_failure` called."""
        try:
            with self._scope:
                await fn()
        except Exception as failure:  # not a boundary: `finished` raises it in the exchange
            self._failure = failure
            on_failure()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """Stop it; `finished` then returns."""
        self._scope.cancel("its exchange wants no more of it")

    async def finished(self) -> None:
        """Wait for its end; raises what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def dismiss(self) -> None:
        """Stop it and wait until it has stopped; to be shielded for `DISMISSAL_SECONDS`, so that it is also when cancelled."""
        self.cancel()
        await self._ended.wait()


class SideTasks:
    """The nursery they live in."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own them until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def start(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> SideTask:
        """Start one; whoever does must see to its end."""
        assert self._nursery is not None, "exchanges are refused before the app runs"
        task = SideTask()
        self._nursery.start_soon(task.run, fn, on_failure)
        return task


class HeldHead:
    """One reply that is being waited for."""

    __slots__ = ("_when_overdue", "due", "overdue")

    def __init__(self, due: float, when_overdue: Callable[[], object]) -> None:
        self.due = due
        self.overdue = False
        self._when_overdue: Callable[[], object] | None = when_overdue

    def ring(self) -> None:
        """Time is up."""
        self.overdue = True
        if self._when_overdue is not None:
            self._when_overdue()

    @property
    def released(self) -> bool:
        """Whether nobody waits any more."""
        return self._when_overdue is None

    def release(self) -> None:
        """The reply is there, or nobody waits any more."""
        self._when_overdue = None


class HoldBackClock:
    """One task and one queue for every exchange: a timer for each would cost more than most requests do.

    All wait equally long, so the queue is in the order of time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[HeldHead] = deque()
        self._first = trio.Event()

    async def run(self) -> None:
        """Ring tickets that are due, until cancelled."""
        while True:
            # Most replies have long come: waiting for their time, too, would wake this task for every request.
            while self._waiting and self._waiting[0].released:
                self._waiting.popleft()
            if not self._waiting:
                self._first = trio.Event()
                await self._first.wait()
            await trio.sleep_until(self._waiting[0].due)
            now = trio.current_time()
            while self._waiting and self._waiting[0].due <= now:
                self._waiting.popleft().ring()

    def begin(self, when_overdue: Callable[[], object]) -> HeldHead:
        """Have `when_overdue` called once the time is up, unless the ticket is released before."""
        ticket = HeldHead(trio.current_time() + self._seconds, when_overdue)
        if not self._waiting:
            self._first.set()
        self._waiting.append(ticket)
        return ticket

    async def answer(self, log: EventLog) -> Answer | None:
        """The whole reply if it came before anything else was said and in time; None when a stream has to start."""
        if not (log.ended or log.streams):
            ticket = self.begin(log.wake)
            try:
                while not (log.ended or log.streams or ticket.overdue):
                    await log.changed()
            finally:
                ticket.release()
        return log.answer()
