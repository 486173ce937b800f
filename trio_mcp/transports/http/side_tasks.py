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

import trio

__all__ = ["DISMISSAL_SECONDS", "HeldHead", "SideTask", "SideTasks"]

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


class HeldHead:
    """One response whose head is held back."""

    __slots__ = ("_when_due", "due")

    def __init__(self, due: float, when_due: Callable[[], object]) -> None:
        self.due: float = due
        """Until when (trio clock)."""
        self._when_due: Callable[[], object] | None = when_due

    def ring(self) -> None:
        """It is due."""
        if self._when_due is not None:
            self._when_due()

    @property
    def released(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._when_due is None

    def release(self) -> None:
        """The reply is there, or nobody waits for it any more: `ring` does nothing."""
        self._when_due = None


class SideTasks:
    """The clock, and the nursery of the side tasks. `hold_back`: for how many seconds a head may be held back."""

    def __init__(self, *, hold_back: float) -> None:
        self._hold_back = hold_back
        self._heads: deque[HeldHead] = deque()
        """Oldest first: all are held back equally long, so this is the order in which they are due."""
        self._first = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the clock and the side tasks until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._run_clock()

    def start(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> SideTask:
        """Start a side task, which its caller must `dismiss`. `on_failure` is called at once when `fn` raises."""
        assert self._nursery is not None, "exchanges are refused before the app runs"
        task = SideTask()
        self._nursery.start_soon(task.run, fn, on_failure)
        return task

    def hold_head_back(self, when_due: Callable[[], object]) -> HeldHead:
        """Have `when_due` called once the head has been held back for as long as it may, unless it is released before."""
        head = HeldHead(trio.current_time() + self._hold_back, when_due)
        if not self._heads:
            self._first.set()
        self._heads.append(head)
        return head

    async def _run_clock(self) -> None:
        while True:
            # Most replies came long ago: to wait until they would have been due would wake this task for every request.
            while self._heads and self._heads[0].released:
                self._heads.popleft()
            if not self._heads:
                self._first = trio.Event()
                await self._first.wait()
            await trio.sleep_until(self._heads[0].due)
            now = trio.current_time()
            while self._heads and self._heads[0].due <= now:
                self._heads.popleft().ring()
