"""Writes lines to a descriptor in a thread of its own: a pipe that is not read must not block the event loop.

emit ─▶ queue, bounded in bytes ─▶ thread ─▶ write(2)
          └─ full: the line is dropped and counted; the next line that fits is preceded by one that says how many
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

__all__ = ["LineWriter", "dropped_lines"]

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Bytes of lines that may wait for the descriptor: some seconds of a busy node's log."""

BATCH_BYTES = 64 * 1024
"""Bytes of one write at most: the default capacity of a pipe."""

CLOSING_SECONDS = 1.0
"""When no thread can be started, a line put after `close` waits this long for those before it."""

_END = b""
"""Ends the thread that takes it from the queue."""

_dropped = 0


def dropped_lines() -> int:
    """Log lines this process has dropped so far."""
    return _dropped


_writers: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _reset_all() -> None:
    for writer in _writers:
        writer.reset()


# The child of a fork has the queues, but not the threads.
os.register_at_fork(after_in_child=_reset_all)


class LineWriter:
    """Writes lines to a descriptor in the order they are put; `put` never blocks.

    `notice` makes the line that says how many were dropped. Callers of `put` must hold a lock, as log handlers do.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._notice = notice
        self.reset()
        _writers.add(self)

    def reset(self) -> None:
        """Start again without lines and without a thread."""
        # Written in C: its `put` is reentrant, so a signal handler may log.
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._put = self._written = self._untold = 0
        """Each number is changed by one thread only, so what waits is known without a lock."""
        self._thread: threading.Thread | None = None
        self._closing: threading.Thread | None = None
        """The thread that still writes the lines put before `close`."""

    def put(self, line: str) -> None:
        """Queue a line; the newline is added."""
        global _dropped
        data = line.encode(errors="backslashreplace") + b"\n"
        if self._put - self._written + len(data) > MAX_WAITING_BYTES:
            self._untold += 1
            _dropped += 1
            return
        if self._untold:
            untold, self._untold = self._untold, 0
            data = self._notice(untold).encode() + b"\n" + data
        self._put += len(data)
        self._lines.put(data)
        if self._thread is None:
            thread = threading.Thread(target=self._write_all, args=(self._closing,), name="trio-mcp-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is ending, or the system has no thread left: the line is written here, though that may block.
                if self._closing is not None:
                    self._closing.join(CLOSING_SECONDS)
                self._write_waiting()
            else:
                self._thread = thread

    def close(self) -> None:
        """End the thread once all lines so far are written, without waiting for it. A later `put` starts another."""
        if self._thread is not None:
            self._lines.put(_END)
            self._closing, self._thread = self._thread, None

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written, `seconds` at most; whether they were."""
        until = time.monotonic() + seconds
        while self._put > self._written:
            if time.monotonic() > until:
                return False
            # Only at the end of the process, never in the event loop.
            time.sleep(0.002)
        return True

    def _write_all(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        while self._write_waiting():
            pass

    def _write_waiting(self) -> bool:
        """Wait for a line, and write it with all others that are there; False at the end."""
        line = self._lines.get()
        data = bytearray(line)
        try:
            while line is not _END and len(data) < BATCH_BYTES:
                line = self._lines.get_nowait()
                data += line
        except Empty:
            pass
        self._write(data)
        self._written += len(data)
        return line is not _END

    def _write(self, data: bytearray) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Another process that shares the descriptor has made it non-blocking.
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:
                # The reader is gone or the descriptor closed: there is nowhere to report it.
                return
