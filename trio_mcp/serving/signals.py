"""What a served process does on signals.

TERM INT HUP QUIT   the first one calls `on_first`; the next one has the default action, which ends the process at once
USR1                switches debug logging on, and off again
USR2                nothing, unless user code handles it

The handlers are Python's own, not Trio's: they run in the main thread even while the event loop is blocked. No signal is blocked or
set to be ignored, because child processes would inherit that.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from trio_mcp.observability.logs import toggle_debug

__all__ = ["handling_signals"]

_ALWAYS = (signal.SIGTERM, signal.SIGINT)
_UNLESS_TAKEN = (signal.SIGHUP, signal.SIGQUIT)
"""Left alone where they are ignored at the start (nohup), or handled by user code."""


@contextmanager
def handling_signals(on_first: Callable[[int], None], *, keep: bool) -> Iterator[None]:
    """Handle signals for the length of the block, in the main thread.

    In another thread nothing is done, for Python has signals handled in the main one alone: who embeds a server there stops it by
    cancelling it. `on_first` is called with the number of the first stop signal, within the signal handler. With `keep` the handlers of a process
    that was asked to stop stay after the block, so that another signal still ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stops = [*_ALWAYS, *(each for each in _UNLESS_TAKEN if _is_free(each))]
    stopping = False

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for each in stops:
            signal.signal(each, _at_once())
        on_first(number)

    handlers: dict[signal.Signals, Any] = dict.fromkeys(stops, first)
    if _is_free(signal.SIGUSR1):
        handlers[signal.SIGUSR1] = _toggle
    if _is_free(signal.SIGUSR2):
        handlers[signal.SIGUSR2] = _nothing
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        if not (stopping and keep):
            for number, handler in before.items():
                # None is a handler that was not set from Python, and cannot be set again from it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_free(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_DFL


def _at_once() -> Any:
    # For process 1 of a container the kernel drops signals that have the default action.
    return signal.SIG_DFL if os.getpid() != 1 else _exit_at_once


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _toggle(number: int, frame: FrameType | None) -> None:
    toggle_debug()


def _nothing(number: int, frame: FrameType | None) -> None:
    """Programs that tools start inherit SIG_IGN, but no handler."""
