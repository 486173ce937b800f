"""Measures how late the event loop runs its tasks, and logs what blocks it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from types import FrameType
from typing import Any

import trio

from trio_mcp.dispatch.call import Call, Service
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.observability.logs import event

__all__ = ["monitor_loop"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

BEAT_SECONDS = 1.0
"""Between two measurements."""

BLOCKED_SECONDS = 1.0
"""The lag from which the loop counts as blocked: all clients have waited so long, and a busy machine alone rarely causes it."""

CHECK_SECONDS = 0.25
"""How often the thread checks whether the loop is late."""


_HINT = "every client waited: write `def` for `async def`, or await trio.to_thread.run_sync(…) around what blocks"


async def monitor_loop(service: Service) -> None:
    """Measure the loop's lag, how late a due task runs, until cancelled; log what blocked it. Also counts the busy worker threads."""
    threads = service.threads
    service.metrics.count_threads_with(lambda: threads.borrowed_tokens)
    watcher = _StackWatcher()
    watcher.start()
    try:
        while True:
            due = trio.current_time() + BEAT_SECONDS
            watcher.expect_by(monotonic() + BEAT_SECONDS)
            await trio.sleep_until(due)
            lag = trio.current_time() - due
            service.metrics.set_loop_lag(lag)
            if lag >= BLOCKED_SECONDS:
                service.metrics.loop_was_blocked()
                event(logger, logging.WARNING, "event loop blocked", seconds=round(lag, 1), hint=_HINT, **watcher.seen)
    finally:
        watcher.stop()


class _StackWatcher(threading.Thread):
    """A thread that reads the stack of the loop while it is late; afterwards it cannot be known any more."""

    def __init__(self) -> None:
        super().__init__(name="trio-mcp loop watcher", daemon=True)
        self.seen: dict[str, Any] = {}
        """What the loop ran when it was last late: `method`, `tool` and `where`."""
        self._loop_thread = threading.get_ident()
        self._due = float("inf")
        self._stopped = threading.Event()

    def expect_by(self, due: float) -> None:
        """The loop should run its task at `due` (monotonic clock)."""
        self.seen = {}
        self._due = due

    def stop(self) -> None:
        """Have the thread end within CHECK_SECONDS; it need not be waited for."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            if monotonic() > self._due + BLOCKED_SECONDS / 2 and not self.seen:
                frame = sys._current_frames().get(self._loop_thread)
                if frame is not None:
                    self.seen = _what_runs(frame)


def _what_runs(frame: FrameType) -> dict[str, Any]:
    where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
    for outer in _outwards(frame):
        if outer.f_code is respond.__code__:
            call: Call = outer.f_locals["call"]
            return {"method": call.method, "tool": call.tool_name, "where": where}
    return {"where": where}


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
