"""The clock by which nodes judge each other: it also sees the time for which this machine was suspended."""

from __future__ import annotations

import time

import msgspec
import trio

__all__ = ["Moment", "machine_time", "now"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


class Moment(msgspec.Struct, frozen=True):
    """A point in time on two clocks, in seconds: Trio's, and one that runs while the machine is suspended."""

    trio: float
    machine: float

    def since(self, earlier: Moment) -> float:
        """Seconds from then to now, by the clock that saw more of them."""
        return max(self.trio - earlier.trio, self.machine - earlier.machine)


def machine_time() -> float:
    """Seconds on a clock that runs while the machine is suspended, which Trio's does not; where there is none, always 0."""
    return 0.0 if _CLOCK is None else time.clock_gettime(_CLOCK)


def now() -> Moment:
    """This moment, on both clocks."""
    return Moment(trio.current_time(), machine_time())
