"""The deadlines of a process that stops, one for each step, and its exit code; over HTTP and over stdio.

asked to stop ─▶ delay ─▶ drain window ─▶ calls are cancelled ─▶ the user's lifespan cleans up ─▶ the process ends
└──────────────────────────── at most `StopTimes.whole` ───────────────────────────────────────┘

`last_resort` ends the process by force at the deadline. Until the first step has set its own, the deadline is that of the whole stop.
The constants are in `sessions.stop_times`.
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


CLEANUP_HINT = (
    "the lifespan went on behind its yield: end there what it has started, as in nursery.cancel_scope.cancel(), "
    "or give it more time with --cleanup-timeout"
)


class StopDeadlines:
    """Sets the deadline of each step with the last resort, and keeps the exit code. Times in seconds."""

    def __init__(
        self, last_resort: LastResort, *, has_lifespan: bool, cleanup: float, cluster_exit: float = 0.0
    ) -> None:
        """`cleanup` is for the user's lifespan, if `has_lifespan`; `cluster_exit` for the cluster after it."""
        self.code: int = 0
        """The exit code."""
        self.begun: bool = False
        """Whether the process was asked to stop, or something crashed."""
        self._failed = False
        self._last_resort = last_resort
        self._has_lifespan = has_lifespan
        self._cleanup = cleanup
        self._cluster_exit = cluster_exit
        self._stage = Stage.START
        self._entered = False

    def serving(self) -> None:
        """The start is over: note that."""
        self._stage = Stage.CALLS

    @property
    def is_serving(self) -> bool:
        """Whether the start is over."""
        return self._stage is not Stage.START

    def begin(self, seconds: float) -> None:
        """The process was asked to stop, and must end within `seconds`. Safe in a signal handler; only the first call counts."""
        if not self.begun:
            self.begun = True
            self._within(seconds)

    def end_calls(self, seconds: float) -> None:
        """Calls were cancelled, or will be: they must have ended within `seconds`."""
        self._stage = Stage.CALLS
        self._within(seconds)

    def fail(self, seconds: float) -> None:
        """Something has crashed: the exit code is 1, and handlers must have ended within `seconds`."""
        self.code = 1
        if not self.begun:
            self.begun = self._failed = True
            self.end_calls(seconds)

    @asynccontextmanager
    async def lifespan(self, users: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
        """Enter the user's lifespan; its cleanup is cancelled when its time is over."""
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
                    # Only now: the calls before it had a deadline of their own.
                    scope.deadline = trio.current_time() + self._cleanup
                    self._stage = Stage.CLEANUP
                    self._within(self._cleanup + NOTICE_SECONDS + self._cluster_exit)
        self._entered = False
        if scope.cancelled_caught:
            event(logger, logging.ERROR, Stage.CLEANUP.value, seconds=self._cleanup, hint=CLEANUP_HINT)
            self.code = 1
            if crash is not None:
                raise crash

    def cleaned_up(self) -> None:
        """The lifespan and those of mounted apps, which share its time, have been left."""
        self._stage = Stage.END
        self._within(NOTICE_SECONDS + CANCELLED_CALLS_SECONDS + self._cluster_exit)

    def over(self, *, process_ends: bool) -> None:
        """The event loop is done. `process_ends`: the process ends now, unless a crash is raised, which may be caught.

        The interpreter then waits for threads that are no daemons: as long as a cleanup may take, and no longer.
        """
        if process_ends and self.begun and not self._failed:
            self._stage = Stage.END
            self._within(self._cleanup)
        else:
            self._last_resort.stand_down()

    def _within(self, seconds: float) -> None:
        # The exit code must show a cleanup that was not run, or cut short.
        lost = self._entered and self._has_lifespan
        self._last_resort.end_within(seconds, 1 if lost else self.code, self._stage)
