"""What a test may have left behind: open descriptors, and threads that still run code of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from tests.rig.waiting import PATIENCE, until

__all__ = ["descriptors", "no_thread_is_within", "threads_within"]


def descriptors() -> int:
    """The descriptors that are open in this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads_within(path: str, *functions: str) -> int:
    """How many threads are in a file whose path contains `path`, in one of the functions; Trio's idle ones are not."""
    return sum(_is_within(frame, path, functions) for frame in sys._current_frames().values())


async def no_thread_is_within(path: str, *functions: str, patience: float = PATIENCE) -> None:
    """Wait until there is none."""

    async def asked() -> bool:
        return threads_within(path, *functions) == 0

    await until(asked, f"no thread is in {path}", patience=patience, pause=0.02)


def _is_within(frame: FrameType | None, path: str, functions: tuple[str, ...]) -> bool:
    while frame is not None:
        code = frame.f_code
        if path in code.co_filename and (not functions or code.co_name in functions):
            return True
        frame = frame.f_back
    return False
