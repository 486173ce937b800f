"""How the event loop and the worker threads are doing, for the metrics page and the log."""

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

__all__ = ["watch_vitals"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

BEAT_SECONDS = 1.0

BLOCKED_SECONDS = 1.0
"""From this lag on the loop counts as blocked: every client has waited so long, and a busy machine alone seldom does it."""

LOOK_SECONDS = 0.25
"""How often the thread looks whether the loop is late."""


async def watch_vitals(service: Service) -> None:
    """Until cancelled: the loop's lag is how late a task runs that was due. Whatever blocks the loop is named in the log."""
    threads = service.threads
    service.metrics.count_threads_with(lambda: threads.borrowed_tokens)
    witness = _Witness()
    witness.start()
    try:
        while True:
            due = trio.current_time() + BEAT_SECONDS
            witness.expect_by(monotonic() + BEAT_SECONDS)
            await trio.sleep_until(due)
            lag = trio.current_time() - due
            service.metrics.set_loop_lag(lag)
            if lag >= BLOCKED_SECONDS:
                service.metrics.loop_was_blocked()
                event(logger, logging.WARNING, "event loop blocked", seconds=round(lag, 1), **witness.seen)
    finally:
        witness.stop()


class _Witness(threading.Thread):
    """Looks at the loop's stack while the loop is late: afterwards nobody knows what held it."""

    def __init__(self) -> None:
        super().__init__(name="trio-mcp loop witness", daemon=True)
        self.seen: dict[str, Any] = {}
        """What held the loop when it was last late: `tool` or `method`, and `where`."""
        self._loop_thread = threading.get_ident()
        self._due = float("inf")
        self._stopped = threading.Event()

    def expect_by(self, due: float) -> None:
        """The loop will be back at this time, if nothing holds it."""
        self.seen = {}
        self._due = due

    def stop(self) -> None:
        """Ends within `LOOK_SECONDS`; nobody needs to wait for it."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
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
