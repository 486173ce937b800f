"""The only place that may end the process by force.

It is a thread with a deadline, because a handler that never awaits blocks the event loop, and with it every task that could watch a
deadline. `stop_deadlines` sets the deadlines.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType
from typing import Any

import trio

from trio_mcp.observability.logs import event, flush

__all__ = ["LastResort", "Stage"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

TELL_SECONDS = 1.0
"""For the last line of the log to be written: the reader of stderr may have stopped reading."""

BLOCKED_SECONDS = 0.5
"""An event loop that runs nothing for this long while the process stops is blocked, and its stack is logged."""

ANSWER_SECONDS = 0.05
"""For an event loop that is not blocked to answer."""

_FRAMES = 8
"""The innermost frames of a stack, as many as are logged."""


class Stage(Enum):
    """What the process was doing. The text is logged when it is ended by force then."""

    START = "stopped before the start was over"
    CALLS = "stopped with handlers still running"
    CLEANUP = "cleanup cut short"
    END = "stopped with threads still running"


@dataclass(frozen=True, slots=True)
class _Order:
    """End the process at `at`."""

    at: float
    """On the monotonic clock."""
    code: int
    stage: Stage


class LastResort:
    """Ends the process at a deadline that can be moved. To be made in the thread of the event loop, inside `trio.run`.

    `still_running` names the calls that are not answered yet, for the log; it is called in another thread.
    """

    def __init__(self, still_running: Callable[[], list[str]]) -> None:
        self._still_running = still_running
        self._loop = trio.lowlevel.current_trio_token()
        self._loops_thread = threading.get_ident()
        # A C queue: `put` is safe in a signal handler, whatever the handler has interrupted.
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._answered = threading.Event()
        self._answered.set()
        self._asked_at = 0.0
        self._named = False
        # Started before it is needed: a thread cannot be started in a signal handler.
        threading.Thread(target=self._watch, name="trio-mcp-last-resort", daemon=True).start()

    def end_within(self, seconds: float, code: int, stage: Stage) -> None:
        """End the process with exit code `code` in `seconds`, in place of any earlier deadline. Safe in a signal handler."""
        self._orders.put(_Order(monotonic() + seconds, code, stage))

    def stand_down(self) -> None:
        """Take the deadline back: the process goes on, or nothing is left that could hold it up."""
        self._orders.put(None)

    def _watch(self) -> None:
        order = self._orders.get()
        while order is not None:
            self._check_loop()
            left = order.at - monotonic()
            following: _Order | None = order
            try:
                following = self._orders.get(timeout=max(0.0, min(left, BLOCKED_SECONDS)))
            except Empty:
                if left <= BLOCKED_SECONDS:
                    return _exit(order.code, order.stage, self._still_running, self._blocked_at())
            order = following

    def _check_loop(self) -> None:
        """Have the event loop answer; log its stack, once for each time that it is blocked."""
        if self._answered.is_set():
            self._asked_at, self._named = monotonic(), False
            self._answered.clear()
            try:
                self._loop.run_sync_soon(self._answered.set)
            except trio.RunFinishedError:
                self._answered.set()
        elif not self._named and monotonic() - self._asked_at >= BLOCKED_SECONDS:
            self._named = True
            _in_thread(_tell_blocked, self._blocked_at())

    def _blocked_at(self) -> list[str] | None:
        if self._answered.wait(ANSWER_SECONDS):
            return None
        return stack_lines(sys._current_frames().get(self._loops_thread))


def stack_lines(frame: FrameType | None) -> list[str]:
    """`server.py:12 in forecast` for each frame, the innermost first."""
    lines: list[str] = []
    while frame is not None and len(lines) < _FRAMES:
        code = frame.f_code
        lines.append(f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return lines


def _exit(code: int, stage: Stage, still_running: Callable[[], list[str]], stack: list[str] | None) -> None:
    _in_thread(_tell, stage, still_running, stack).join(TELL_SECONDS)
    os._exit(code)


def _in_thread(tell: Callable[..., None], *args: Any) -> threading.Thread:
    """Run `tell` in a further thread: the blocked one may hold the lock of the log."""
    telling = threading.Thread(target=tell, args=args, daemon=True)
    telling.start()
    return telling


def _tell_blocked(stack: list[str] | None) -> None:
    event(logger, logging.ERROR, "the event loop is blocked", stack=stack)


def _tell(stage: Stage, still_running: Callable[[], list[str]], stack: list[str] | None) -> None:
    named: dict[str, Any] = {"stack": stack}
    if stage is Stage.END:
        named["running"] = ", ".join(_threads()) or None
    elif stage is Stage.CALLS:
        named["running"] = ", ".join(still_running()) or "no call: a connection, or a task of a session"
    event(logger, logging.ERROR, stage.value, **named)
    flush(TELL_SECONDS)


def _threads() -> list[str]:
    """The threads that the interpreter waits for at its end, each with its innermost frame."""
    frames = sys._current_frames()
    waited_for = [each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    return [" in ".join([each.name, *stack_lines(frames.get(each.ident or 0))[:1]]) for each in waited_for]
