"""A clock that runs as time does and can leap: what a process sees that stood still for a while."""

from __future__ import annotations

import time

import trio

__all__ = ["LeapingClock"]


class LeapingClock(trio.abc.Clock):
    """Real sockets and other processes know nothing of its leaps."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def leap(self, seconds: float) -> None:
        """At once; what is due by then runs next."""
        self._ahead += seconds

    def start_clock(self) -> None:
        """It always runs."""

    def current_time(self) -> float:
        return time.perf_counter() + self._ahead

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
