"""Serves connections that come from other processes, each in a task that one before it has left, where there is such a task.

serve ──▶ a task that waits, or a new one ──▶ serves the connection ─┬─ it has gone on to another process ──▶ waits
                                                                    └─ it has ended ────────────────────────▶ ends

A pool of connections that carries the sessions of many processes has each of them come and go all the time: a task that is made and ended
for each stay, with the scope for its calls, costs more than the rest of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from trio_mcp.dispatch.dispatcher import KeptScope
from trio_mcp.transports.listener.moving import Moved

__all__ = ["MOST_WAITING", "UNUSED_SECONDS", "Arrivals"]

MOST_WAITING = 64
"""Tasks, of some 5 KB each; those of more connections end when their connection goes."""
UNUSED_SECONDS = 5.0
"""A task that was not needed for so long ends."""

_Serve: TypeAlias = Callable[[Moved, KeptScope], Awaitable[bool]]


class Arrivals:
    """Starts tasks in `connections`. `serve` serves one connection to its end, or until it goes on: then it returns True."""

    def __init__(self, connections: trio.Nursery, serve: _Serve) -> None:
        self._connections = connections
        self._serve = serve
        self._ended = False
        self._some = trio.lowlevel.ParkingLot()
        """Where `run` waits until there are any."""
        self._waiting: list[_Arrival] = []
        """The one that began to wait last is taken first, so that those in front are the ones that are not needed."""
        self._fewest = 0
        """How many have been waiting all the time since `run` has looked last."""

    def serve(self, moved: Moved) -> None:
        """Have a task serve the connection, from when it runs next."""
        if not self._waiting:
            self._connections.start_soon(self._serve_all, _Arrival(moved))
            return
        arrival = self._waiting.pop()
        self._fewest = min(self._fewest, len(self._waiting))
        arrival.wake(moved)

    def end(self) -> None:
        """End the tasks that wait, and let none wait any more."""
        self._ended = True
        self._end_first(len(self._waiting))

    async def run(self) -> None:
        """End the tasks that are not needed, until cancelled."""
        while True:
            if not self._waiting:
                await self._some.park()
            self._fewest = len(self._waiting)
            await trio.sleep(UNUSED_SECONDS)
            self._end_first(self._fewest)

    def _end_first(self, count: int) -> None:
        unused, self._waiting = self._waiting[:count], self._waiting[count:]
        for arrival in unused:
            arrival.wake(None)

    async def _serve_all(self, arrival: _Arrival) -> None:
        arrival.task = trio.lowlevel.current_task()
        variables = arrival.task.context.copy()
        with KeptScope() as kept:
            while arrival.moved is not None and await self._serve(arrival.moved, kept) and self._keeps(arrival):
                # What the requests of one connection have set is not there for those of the next.
                arrival.task.context = variables.copy()
                await trio.lowlevel.wait_task_rescheduled(partial(self._cancelled, arrival))

    def _keeps(self, arrival: _Arrival) -> bool:
        """Whether the task is to wait for another connection."""
        arrival.moved = None
        if self._ended or len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(arrival)
        if self._some:
            self._some.unpark()
        return True

    def _cancelled(self, arrival: _Arrival, _: object) -> trio.lowlevel.Abort:
        # At once, not when it runs next: a connection that comes before that needs another task.
        self._waiting.remove(arrival)
        self._fewest = min(self._fewest, len(self._waiting))
        return trio.lowlevel.Abort.SUCCEEDED


class _Arrival:
    """A task, and the connection that it serves."""

    __slots__ = ("moved", "task")

    def __init__(self, moved: Moved) -> None:
        self.moved: Moved | None = moved
        """None while it waits, and when it is to end."""
        self.task: trio.lowlevel.Task | None = None

    def wake(self, moved: Moved | None) -> None:
        """Have the task, which waits, serve that connection; None: end."""
        assert self.task is not None
        self.moved = moved
        trio.lowlevel.reschedule(self.task)
