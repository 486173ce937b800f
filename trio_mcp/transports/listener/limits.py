"""How much a peer may send, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection; sizes in bytes, times in seconds."""

    connections: int | None = None
    """Open at once, but for a few that only linger. Past it the connection that has been idle for longest makes way, and when none
    is, the new one gets 503."""
    head_bytes: int = 32 * 1024
    """Request line and headers together: more is 431."""
    head_seconds: float = 10.0
    """From a head's first byte to its last: more is 408."""
    body_bytes: int = 4 * 1024 * 1024
    """More is 413, told from Content-Length before a byte of the body is read."""
    body_seconds: float = 60.0
    """From the end of the head to the end of the body: more is 408."""
    write_seconds: float = 20.0
    """A peer that takes no byte for so long loses its connection."""
    idle_seconds: float = 75.0
    """Longer than the idle timeout of proxies in front (Traefik: 60), which else send into a closing connection."""
    pipelined_bytes: int = 64 * 1024
    """Read ahead of the running request at most; the rest waits in the kernel."""
    tcp_user_timeout_seconds: float = 30.0
    """Unacknowledged data for so long ends a TCP connection (Linux): a vanished peer acknowledges nothing."""
