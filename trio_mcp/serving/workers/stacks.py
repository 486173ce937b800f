"""Where a worker stands whose event loop does not run: the stack of its main thread, asked for by a signal before it is killed.

supervisor ── signal ──▶ worker: a handler in C writes the stack to a file ──▶ supervisor reads it, for the log

The handler needs neither the event loop nor the interpreter, so that it works in a loop without end and in a system call alike.
"""

from __future__ import annotations

import faulthandler
import signal
from pathlib import Path

__all__ = ["SIGNAL", "STACK_SECONDS", "read_stack", "write_stack_when_asked"]

SIGNAL: int | None = getattr(signal, "SIGRTMIN", None)
"""Of the real-time signals, which have no meaning of their own; None where there are none (macOS)."""
STACK_SECONDS = 0.5
"""For the handler to write."""

_MOST_BYTES = 64 * 1024
_MOST_FRAMES = 24


def write_stack_when_asked(path: Path) -> None:
    """From now on, have SIGNAL write the stack of the main thread to `path`, until this process ends."""
    if SIGNAL is not None:
        # The file stays open: the handler can open none. It is no log of anything, so that nothing is lost where it is full.
        faulthandler.register(SIGNAL, file=path.open("wb", buffering=0), all_threads=False)


def read_stack(path: Path) -> str | None:
    """What was written, the innermost calls first, in one line; None where nothing was. The file is removed."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode(errors="replace")
        path.unlink()
    except OSError:
        return None
    frames = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    return " < ".join(frames[:_MOST_FRAMES]) or None
