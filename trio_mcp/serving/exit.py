"""The one place that may end the process: for what neither cancellation nor a thread's end can reach."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trio_mcp.observability.logs import event

__all__ = ["no_longer_than"]

logger = logging.getLogger("trio_mcp.serving")

TELL_SECONDS = 0.2
"""For the last line of the log: whoever blocks on a full stderr holds the lock it needs."""


@contextmanager
def no_longer_than(seconds: float, code: int, still_running: Callable[[], list[str]]) -> Iterator[None]:
    """Exit the process with `code` unless the block ends in time: a handler that shields itself must not hold it up.

    A thread, because a handler that never awaits would stop a task of ours too.
    """
    timer = threading.Timer(seconds, _exit, (code, still_running))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _exit(code: int, still_running: Callable[[], list[str]]) -> None:
    telling = threading.Thread(target=_tell, args=(still_running,), daemon=True)
    telling.start()
    telling.join(TELL_SECONDS)
    os._exit(code)


def _tell(still_running: Callable[[], list[str]]) -> None:
    running = ", ".join(still_running()) or "no call: the cleanup of a lifespan, or a task of a session"
    event(logger, logging.ERROR, "stopped with handlers still running", running=running)
    logging.shutdown()
