"""How a served process ends in time: what may take how long, and the exit code.

asked to stop ─▶ delay ─▶ drain window ─▶ calls are cancelled ─▶ the user's lifespan cleans up ─▶ the process ends
└──────────────────────────── at most `StopTimes.whole` ───────────────────────────────────────┘

Each step has a deadline of its own with the last resort, set when it begins; until the first is set the whole counts.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio

from trio_mcp.observability.logs import event
from trio_mcp.serving.last_resort import LastResort, Stage
from trio_mcp.sessions.stop_times import CANCELLED_CALLS_SECONDS, NOTICE_SECONDS

__all__ = ["StopDeadlines"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")


class StopDeadlines:
    """Sets the last resort's deadlines, step by step, and keeps the exit code."""

    def __init__(self, last_resort: LastResort, *, has_lifespan: bool, cleanup: float, goodbye: float = 0.0) -> None:
        self.code: int = 0
        self.begun: bool = False
        self._failed = False
        self._last_resort = last_resort
        self._has_lifespan = has_lifespan
        self._cleanup = cleanup
        self._goodbye = goodbye
        self._stage = Stage.START
        self._entered = False

    def serving(self) -> None:
        """The start is over."""
        self._stage = Stage.CALLS

    @property
    def is_serving(self) -> bool:
        """Whether the start is over."""
        return self._stage is not Stage.START

    def begin(self, seconds: float) -> None:
        """Asked to stop: `seconds` for the whole. Safe in a signal handler; only the first call counts."""
        if not self.begun:
            self.begun = True
            self._within(seconds)

    def end_calls(self, seconds: float = CANCELLED_CALLS_SECONDS) -> None:
        """What still runs was cancelled, or will be before `seconds` are over."""
        self._stage = Stage.CALLS
        self._within(seconds)

    def fail(self, seconds: float) -> None:
        """Something has crashed and ends the process: handlers must not hold that up."""
        self.code = 1
        if not self.begun:
            self.begun = self._failed = True
            self.end_calls(seconds)

    @asynccontextmanager
    async def lifespan(self, users: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
        """The user's lifespan, whose cleanup is cancelled when its time is over."""
        crash: BaseException | None = None
        with trio.CancelScope() as scope:
            async with users() as context:
                self._entered = True
                try:
                    yield context
                except BaseException as error:
                    crash = error
                    raise
                finally:
                    # Not before: the calls had their own time.
                    scope.deadline = trio.current_time() + self._cleanup
                    self._stage = Stage.CLEANUP
                    self._within(self._cleanup + NOTICE_SECONDS + self._goodbye)
        self._entered = False
        if scope.cancelled_caught:
            event(logger, logging.ERROR, Stage.CLEANUP.value, seconds=self._cleanup)
            self.code = 1
            if crash is not None:
                raise crash

    def cleaned_up(self) -> None:
        """Of mounted apps, too, which share the time of the lifespan."""
        self._stage = Stage.END
        self._within(NOTICE_SECONDS + CANCELLED_CALLS_SECONDS + self._goodbye)

    def over(self, *, process_ends: bool) -> None:
        """The loop's part is done. The interpreter waits for threads that are no daemons: as long as a cleanup may take.

        Not where whoever called goes on, or where it ends by a crash: that may be caught.
        """
        if process_ends and self.begun and not self._failed:
            self._stage = Stage.END
            self._within(self._cleanup)
        else:
            self._last_resort.stand_down()

    def _within(self, seconds: float) -> None:
        # A cleanup that is never run, or cut, is a loss that the exit code has to show.
        lost = self._entered and self._has_lifespan
        self._last_resort.end_within(seconds, 1 if lost else self.code, self._stage)
