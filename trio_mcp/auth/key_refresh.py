"""When the keys of an issuer are fetched: decisions without I/O, in seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypedDict

__all__ = [
    "ASK_PAUSE_SECONDS",
    "STALE_SECONDS",
    "Ask",
    "KeyStatistics",
    "RefreshPlan",
    "refresh_interval",
    "retry_delay",
]

REFRESH_SECONDS = 600.0
"""Between two fetches, where the issuer does not say."""
MIN_REFRESH_SECONDS = 60.0
MAX_REFRESH_SECONDS = 3600.0
"""The bounds of what the issuer may say by `Cache-Control: max-age`."""

STALE_SECONDS = 4 * 3600.0
"""How long keys count that cannot be fetched again. A key that the issuer withdrew in that time is still trusted."""

ASK_PAUSE_SECONDS = 10.0
"""Between two fetches that were caused by a token with an unknown key. Anybody can send such tokens."""

_MAX_RETRY_SECONDS = 30.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})(?!\d)", re.IGNORECASE)


def refresh_interval(cache_control: str) -> float:
    """Seconds until the next fetch after an answer with that `Cache-Control` header."""
    age = _MAX_AGE.search(cache_control)
    return REFRESH_SECONDS if age is None else min(max(float(age[1]), MIN_REFRESH_SECONDS), MAX_REFRESH_SECONDS)


def retry_delay(failures: int) -> float:
    """Seconds until the next attempt after so many failures in a row: 1, 2, 4, 8, 16, then 30."""
    return min(2.0 ** min(failures - 1, 5), _MAX_RETRY_SECONDS)


class Ask(Enum):
    """What a request does whose token names an unknown key."""

    WAIT = auto()
    """Wait for the fetch that runs, or that it causes."""
    UNKNOWN = auto()
    """The last fetch worked and did not have the key: it is unknown."""
    CANNOT_TELL = auto()
    """The last fetch failed, so the key may well exist."""


class KeyStatistics(TypedDict):
    """Numbers for metrics."""

    age_seconds: float | None
    """Since the keys were fetched; None before the first time."""
    succeeded: int
    failed: int


@dataclass(slots=True)
class RefreshPlan:
    """What happened to the fetches so far, and what follows from it. Times are those of one steady clock."""

    interval: float = REFRESH_SECONDS
    failures: int = 0
    """In a row, up to now."""
    succeeded: int = 0
    failed: int = 0
    fetched_at: float | None = None
    """When keys were fetched for the last time; None before the first."""
    running: bool = False
    _ask_again_at: float = float("-inf")

    @property
    def delay(self) -> float:
        """Seconds from the end of the last fetch to the next, if nobody asks before."""
        return retry_delay(self.failures) if self.failures else self.interval

    def statistics(self, now: float) -> KeyStatistics:
        """What happened, in numbers."""
        age = None if self.fetched_at is None else now - self.fetched_at
        return KeyStatistics(age_seconds=age, succeeded=self.succeeded, failed=self.failed)

    def is_stale(self, now: float) -> bool:
        """Whether the keys are too old to be trusted, or were never fetched."""
        return self.fetched_at is None or now - self.fetched_at > STALE_SECONDS

    def ask(self, now: float) -> Ask:
        """What a request does whose token names an unknown key."""
        if self.running or now >= self._ask_again_at:
            return Ask.WAIT
        return self.outcome

    @property
    def outcome(self) -> Ask:
        """What the last fetch means for a key that it did not have."""
        return Ask.CANNOT_TELL if self.failures else Ask.UNKNOWN

    def began(self) -> None:
        """A fetch begins."""
        self.running = True

    def ended(self, now: float, *, asked: bool, interval: float | None) -> None:
        """A fetch ended: `interval` is when the next is due after a success, None after a failure.

        Only one that a request caused (`asked`) starts the pause. The first token under a new key may come right after a
        regular fetch, and must not be refused for it.
        """
        self.running = False
        if asked:
            self._ask_again_at = now + ASK_PAUSE_SECONDS
        if interval is None:
            self.failures += 1
            self.failed += 1
        else:
            self.failures = 0
            self.succeeded += 1
            self.interval = interval
            self.fetched_at = now
