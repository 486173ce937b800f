"""How long ago something was, also when this process or the whole machine stood still meanwhile."""

from __future__ import annotations

import time

import trio

__all__ = ["Moment", "machine_time"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def machine_time() -> float:
    """Seconds on a clock that runs while the machine is suspended, which Trio's does not; where there is none, always 0."""
    return 0.0 if _CLOCK is None else time.clock_gettime(_CLOCK)


class Moment:
    """Now, when it is made."""

    __slots__ = ("_machine", "_trio")

    def __init__(self) -> None:
        self._trio = trio.current_time()
        self._machine = machine_time()

    @property
    def ago(self) -> float:
        """Seconds since then, by the clock that saw more of them."""
        return max(trio.current_time() - self._trio, machine_time() - self._machine)
