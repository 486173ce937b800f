"""What a supervisor can still have from a worker whose event loop does not run: by signals, for it reads no messages.

supervisor ── WRITE_STACK ──▶ worker: a handler in C writes the stack to a file ──▶ supervisor reads it, for the log
           ── STOP_CLOCK ───▶ worker: a handler in Python sets the deadline of its stop, as that of SIGTERM does in one process
           ends ────────────▶ worker: a thread sends STOP_CLOCK to its own process

The first needs neither the event loop nor the interpreter, so that it works in a loop without end and in a system call alike. The second goes
with each `Stop` and `Retire`, which say how to stop: with the deadline set, the worker ends by itself in its time, and names what blocks it.
A worker that starts, and has no handler yet, is ended by that signal.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trio_mcp.protocol.errors import McpError

__all__ = [
    "NO_THREADS",
    "STACK_SECONDS",
    "STOP_CLOCK",
    "WRITE_STACK",
    "clock_started_when_told",
    "end_with_supervisor",
    "read_stack",
    "write_stack_when_asked",
]

_FIRST: int | None = getattr(signal, "SIGRTMIN", None)
WRITE_STACK: int | None = _FIRST
"""Of the real-time signals, which have no meaning of their own; None where there are none (macOS)."""
STOP_CLOCK: int | None = None if _FIRST is None else _FIRST + 1
STACK_SECONDS = 0.5
"""For the handler to write."""

NO_THREADS = "see ulimit -u, and how many processes the container may have"
"""What to do where no thread can be started, and so no process either."""

_MOST_BYTES = 64 * 1024
_MOST_FRAMES = 24


def write_stack_when_asked(path: Path) -> None:
    """From now on, have WRITE_STACK write the stack of the main thread to `path`, until this process ends.

    Raises McpError where that file cannot be made.
    """
    if WRITE_STACK is None:
        return
    try:
        # It stays open: the handler can open none. It is no log of anything, so that nothing is lost where the disk is full.
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise McpError(
            f"the folder of the workers' sockets cannot be written: {error}. Make room on that disk, or make it writable. Where the folder "
            "was removed, restart the node; TMPDIR says where it is made"
        ) from error
    faulthandler.register(WRITE_STACK, file=file, all_threads=False)


def end_with_supervisor(connected: socket.socket) -> None:
    """From now on, have the end of the supervisor set the deadline of this process, whatever its main thread does: an import that
    never returns would keep the listening sockets open for ever. `connected` is a descriptor of the channel, for this alone. To be called
    in the main thread. Raises McpError where no thread can be started.
    """
    if STOP_CLOCK is not None:
        # A process that was started where it was ignored would ignore it, too.
        signal.signal(STOP_CLOCK, signal.SIG_DFL)
    watching = threading.Thread(target=_watch, args=(connected,), name="trio-mcp-supervisor", daemon=True)
    try:
        watching.start()
    except RuntimeError as error:
        connected.close()
        raise McpError(f"{error}: {NO_THREADS}") from error


def _watch(connected: socket.socket) -> None:
    gone = select.poll()
    # No event is asked for: what can be read is for the channel. The end of the other process is told all the same.
    gone.register(connected, 0)
    gone.poll()
    os.kill(os.getpid(), signal.SIGTERM if STOP_CLOCK is None else STOP_CLOCK)


@contextmanager
def clock_started_when_told(start: Callable[[], None]) -> Iterator[None]:
    """Have STOP_CLOCK call `start` in the main thread, within the signal handler, for the length of the block. It is ignored after that."""
    if STOP_CLOCK is not None:
        signal.signal(STOP_CLOCK, lambda number, frame: start())
    try:
        yield
    finally:
        # While the interpreter ends, a signal that has a handler has its default action again, which is to kill the process.
        if STOP_CLOCK is not None:
            signal.signal(STOP_CLOCK, signal.SIG_IGN)


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
