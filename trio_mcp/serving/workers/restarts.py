"""When a worker is started again, and when it hangs: decided from times, without processes.

it dies before it was ever ready, and no worker ever was ─▶ GIVE_UP: it would never start
it dies ────────────────────────────────────────────────▶ started again: at once, or after a pause that doubles while it keeps dying
its event loop says nothing for `patience` ─────────────▶ it hangs: it is killed, and has died
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALIVE_SECONDS", "FIRST_PAUSE_SECONDS", "MOST_PAUSE_SECONDS", "STEADY_SECONDS", "Place", "hangs"]

ALIVE_SECONDS = 1.0
"""Between two signs of life of a worker's event loop."""
FIRST_PAUSE_SECONDS = 0.5
"""Before a worker is started again that had died soon after its start."""
MOST_PAUSE_SECONDS = 30.0
"""The pause doubles up to this."""
STEADY_SECONDS = 10.0
"""A worker that was ready for so long has started well: if it dies now, the next is started at once."""


@dataclass(slots=True)
class Place:
    """One of the node's places for a worker: what its processes went through. Times in seconds, of one clock."""

    pause: float = 0.0
    """Before the next start."""

    def died(self, ready_for: float | None) -> float:
        """Seconds until the next start, of a worker that was ready for so long; None when it never was."""
        if ready_for is not None and ready_for >= STEADY_SECONDS:
            self.pause = 0.0
            return 0.0
        wait, self.pause = self.pause, min(max(FIRST_PAUSE_SECONDS, 2 * self.pause), MOST_PAUSE_SECONDS)
        # A first death is followed by a start at once, unless the worker never got ready: then nothing has changed meanwhile.
        return wait if ready_for is not None else max(wait, FIRST_PAUSE_SECONDS)


def hangs(now: float, heard: float, *, looked: float, patience: float) -> bool:
    """Whether a worker that was heard last at `heard` hangs.

    `looked` is when the supervisor looked before: if that is long ago, it stood still itself, and has not read what came meanwhile.
    """
    stood_still = now - looked > 2 * ALIVE_SECONDS
    return not stood_still and now - heard >= patience
