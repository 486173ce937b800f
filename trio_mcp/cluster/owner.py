"""Where a session lives."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Owner"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has a session, and how to reach it."""

    node: str
    boot: str
    """Empty when unknown."""
    epoch: int
    """How often the session was restored; -1 when unknown."""
    url: str
    """As in `http://10.0.0.7:8000`."""
