"""Severity levels of `notifications/message` (server/utilities/logging, every version; RFC 5424)."""

from __future__ import annotations

__all__ = ["LEVELS", "at_least"]

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_RANK = {level: rank for rank, level in enumerate(LEVELS)}


def at_least(level: str, threshold: str) -> bool:
    """Whether a message of `level` passes a filter set to `threshold`."""
    return _RANK[level] >= _RANK[threshold]
