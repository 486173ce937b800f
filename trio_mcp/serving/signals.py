"""What a served process does on signals. Python's own handlers: they run in the main thread even while its loop is blocked.

TERM INT HUP QUIT   the first one is told to the caller; the next one has the default action, which ends the process at once
USR1                every log line, and back
USR2                nothing, unless user code handles it

No signal is blocked, and none set to be ignored: child processes would inherit that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from trio_mcp.observability.logs import toggle_debug

__all__ = ["handling_signals"]

_ALWAYS = (signal.SIGTERM, signal.SIGINT)
_UNLESS_TAKEN = (signal.SIGHUP, signal.SIGQUIT)
"""Ignored at the start (nohup), or handled by user code, they stay so."""


@contextmanager
def handling_signals(on_first: Callable[[int], None], *, keep: bool) -> Iterator[None]:
    """For the length of the block, in the main thread. `on_first` is called within the signal handler, once.

    With `keep` a stop is not taken back: after the block another signal still ends the process at once.
    """
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
                # None: not set from Python, which cannot set it again either.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_free(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_DFL


def _at_once() -> Any:
    # Process 1 of a container has no default action: the kernel drops the signal.
    return signal.SIG_DFL if os.getpid() != 1 else _exit_at_once


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _toggle(number: int, frame: FrameType | None) -> None:
    toggle_debug()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, unlike SIG_IGN, is not inherited by the programs that handlers start."""
