"""The bounds and deadlines of requests that a server may set for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from trio_mcp.defaults import (
    MAX_IN_FLIGHT,
    MAX_LISTEN_STREAMS,
    PAGE_SIZE,
    REQUEST_STATE_TTL,
    REQUEST_TIMEOUT,
    WORKER_THREADS,
    WRITE_TIMEOUT,
)
from trio_mcp.streams.budget import StreamBounds

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Bounds and deadlines of requests; times in seconds. Raises ValueError for a bound below 1."""

    page_size: int = PAGE_SIZE
    request_timeout: float = REQUEST_TIMEOUT
    """How long a client may take to answer a request of the server, such as an elicitation."""
    write_timeout: float = WRITE_TIMEOUT
    """After how long a client that reads nothing loses its connection."""
    request_state_ttl: float = REQUEST_STATE_TTL
    """How long a modern client may take from `input_required` to its retry."""
    cache_ttl: float = 0.0
    """For how long clients may cache lists and `server/discover` (`ttlMs`). 0: not at all."""
    private_lists: bool = False
    """Whether lists depend on the caller, so that no shared cache may keep them."""
    streams: StreamBounds = field(default_factory=StreamBounds)
    max_in_flight: int = MAX_IN_FLIGHT
    """Requests of one session, or of stdio, that run at the same time."""
    max_listen_streams: int = MAX_LISTEN_STREAMS
    """`subscriptions/listen` streams open at once, of all clients together."""
    worker_threads: int = WORKER_THREADS
    """Sync handlers that run at the same time."""

    def __post_init__(self) -> None:
        """With a bound of 0 clients would wait for ever, or ask for page after page."""
        for name in ("page_size", "max_in_flight", "max_listen_streams", "worker_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}= of Options is at least 1, not {getattr(self, name)!r}")
