"""How long a reply may hold the response head back in the hope of plain JSON, for all exchanges together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from trio_mcp.streams.event_log import Answer, EventLog

__all__ = ["HoldBack", "Ticket"]


class Ticket:
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


class HoldBack:
    """One task and one queue for every exchange: a timer for each would cost more than most requests do.

    All wait equally long, so the queue is in the order of time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[Ticket] = deque()
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

    def begin(self, when_overdue: Callable[[], object]) -> Ticket:
        """Have `when_overdue` called once the time is up, unless the ticket is released before."""
        ticket = Ticket(trio.current_time() + self._seconds, when_overdue)
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
