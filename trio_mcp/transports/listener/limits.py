"""How much a client may send, and how long it may take for it."""

from __future__ import annotations

from dataclasses import dataclass

from trio_mcp.defaults import (
    BODY_TIMEOUT,
    CONNECTION_IDLE_TIMEOUT,
    HEAD_TIMEOUT,
    KEEP_ALIVE,
    MAX_BODY,
    MAX_HEAD,
    WRITE_TIMEOUT,
)

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection; sizes in bytes, times in seconds."""

    connections: int | None = None
    """Open at the same time, besides a few that linger. Beyond it the connection that has been idle for longest is closed; when none is
    idle, the new one gets 503. None is no bound."""
    head_bytes: int = MAX_HEAD
    """Request line and headers together: more is 431."""
    head_seconds: float = HEAD_TIMEOUT
    """From a head's first byte to its last: more is 408."""
    body_bytes: int = MAX_BODY
    """More is 413, which is known from Content-Length before a byte of the body is read. Also of a WebSocket message: more is a close with 1009."""
    body_seconds: float = BODY_TIMEOUT
    """From the end of the head to the end of the body: more is 408. Also from the first to the last byte of a WebSocket message."""
    write_seconds: float = WRITE_TIMEOUT
    """A client that reads no byte for this long loses its connection."""
    idle_seconds: float = CONNECTION_IDLE_TIMEOUT
    """A connection without a request for this long is closed."""
    pipelined_bytes: int = 64 * 1024
    """Read beyond the running request at most; the rest waits in the kernel."""
    tcp_user_timeout_seconds: float = 30.0
    """After this long without an acknowledgement the kernel ends a TCP connection (Linux): a client that vanished sends none."""
    websockets: bool = False
    """Answer WebSocket handshakes: the app gets the ASGI scope `websocket`. Without it they are the GET requests that they are."""
    ping_seconds: float = KEEP_ALIVE
    """A WebSocket client that has sent nothing for this long gets a ping; after as long again without a byte it has gone."""
