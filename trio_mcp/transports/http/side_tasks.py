"""Tasks beside those of the exchanges: one clock for all of them, and a side task for the few that need a second one.

    exchange ──hold_head_back──▶ clock: one task and one queue, for every head is held back equally long
        ▲                          │
        └──────── when_due ────────┘    the reply has not come in time: the exchange begins a stream

    exchange ──start──▶ SideTask        streams while a modern handler runs in the exchange's own task;
        ▲                 │             or waits for a disconnect, where the server tells of it in no other way
        ├── on_failure ───┤             at once, in the side task: cancels the handler
        ├── finished ─────┤             waits for its end, and raises what it raised
        └── dismiss ──────┘             cancels it, and waits until it has stopped

A timer and a nursery for each exchange would be the plain way, and cost a sixth of a whole call. Most replies come before
anything else and in time, and need neither. The nursery here outlives the exchanges, so each of them keeps what a nursery of
its own would promise: its side task has ended before it ends, and what the task raises is raised in the exchange.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import trio

__all__ = ["DISMISSAL_SECONDS", "HeldHead", "SideTask", "SideTasks"]

DISMISSAL_SECONDS = 1.0
"""How long an exchange waits for a side task that it has cancelled. They await nothing in their cleanup, so this is not reached."""


class SideTask:
    """One task beside that of its exchange, which must `dismiss` it."""

    __slots__ = ("_ended", "_failure", "_scope")

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._failure: Exception | None = None
        self._scope = trio.CancelScope()

    async def run(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> None:
        """Run `fn`. What it raises is kept for `finished`, and `on_failure` is called."""
        try:
            with self._scope:
                await fn()
        except Exception as failure:  # not a boundary: `finished` raises it in the exchange
            self._failure = failure
            on_failure()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """Cancel it: `finished` then returns."""
        self._scope.cancel("the exchange is over")

    async def finished(self) -> None:
        """Wait until it has ended; raises what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def dismiss(self) -> None:
        """Cancel it and wait until it has ended. To be called under a shield of `DISMISSAL_SECONDS`."""
        self.cancel()
        await self._ended.wait()


class HeldHead(msgspec.Struct, eq=False):
    """The head of one response, held back until the reply is there or the clock runs out."""

    due: float
    """When the clock runs out (trio clock)."""
    _when_due: Callable[[], object] | None

    def ring(self) -> None:
        """The clock has run out."""
        if self._when_due is not None:
            self._when_due()

    @property
    def released(self) -> bool:
        """Whether `release` was called."""
        return self._when_due is None

    def release(self) -> None:
        """The exchange waits no more: `when_due` is not called after this."""
        self._when_due = None


class SideTasks:
    """The clock, and the nursery of the side tasks. `hold_back` is how long a head is held back, in seconds."""

    def __init__(self, *, hold_back: float) -> None:
        self._hold_back = hold_back
        self._heads: deque[HeldHead] = deque()
        """Oldest first, which is the order in which they are due, for all are held back equally long.

        Only one whose exchange has waited for a permission since its body ended is due earlier than those before it: it rings with them.
        """
        self._first = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the clock and the side tasks until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._run_clock()

    def start(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> SideTask:
        """Start `fn` as a side task, which the caller must `dismiss`. `on_failure` is called at once when it raises."""
        assert self._nursery is not None, "exchanges are refused before the app runs"
        task = SideTask()
        self._nursery.start_soon(task.run, fn, on_failure)
        return task

    def hold_head_back(self, when_due: Callable[[], object], since: float) -> HeldHead:
        """Call `when_due` after the time that a head is held back, unless it is released before.

        It is held back from `since` on (trio clock), which is now, or was a moment ago.
        """
        head = HeldHead(since + self._hold_back, when_due)
        if not self._heads:
            self._first.set()
        self._heads.append(head)
        return head

    async def _run_clock(self) -> None:
        while True:
            # Most were released long ago. A wait for the time of each would wake this task as often as there are requests.
            while self._heads and self._heads[0].released:
                self._heads.popleft()
            if not self._heads:
                self._first = trio.Event()
                await self._first.wait()
            await trio.sleep_until(self._heads[0].due)
            now = trio.current_time()
            while self._heads and self._heads[0].due <= now:
                self._heads.popleft().ring()
