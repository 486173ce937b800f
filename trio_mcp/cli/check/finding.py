"""One thing a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Level"]


class Level(Enum):
    """How much it matters; in the order in which it is told."""

    CHANGE = "change"
    """Clients suffer, or will."""
    NOTE = "note"
    """It can be meant so."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """`step` says what to do; `said` is what the server said of it."""

    level: Level
    text: str
    step: str = ""
    said: str = ""
