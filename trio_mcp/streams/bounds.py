"""How much may wait in streams, and how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StreamBounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBounds:
    """Per stream and per session; sizes in bytes, times in seconds."""

    events: int = 1_000
    stream_bytes: int = 1024 * 1024
    session_bytes: int = 4 * 1024 * 1024
    keep_seconds: float = 300.0
    """How long a stream that ended can still be resumed."""
