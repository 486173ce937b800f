"""Prometheus metrics of WebSockets: how many are open, what goes through them, how they end, and which were refused.

Only a server that offers them has these. Labels come from fixed sets: a client may send any close code.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["WebSocketMetrics"]


class WebSocketMetrics:
    """Those of one app, in the registry of its other metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge("trio_mcp_websockets_active", "WebSockets open now.", registry=registry)
        messages = Counter(
            "trio_mcp_websocket_messages_total", "Messages on WebSockets.", ("direction",), registry=registry
        )
        self.received: Callable[[], None] = messages.labels("in").inc
        """Count a message of a client."""
        self.sent: Callable[[], None] = messages.labels("out").inc
        """Count a message to a client."""
        self._closed = Counter("trio_mcp_websockets_closed_total", "WebSockets closed.", ("code",), registry=registry)
        self._refused = Counter(
            "trio_mcp_websocket_handshakes_refused_total",
            "Handshakes answered with an HTTP error.",
            ("status",),
            registry=registry,
        )

    def opened(self) -> None:
        """Count a handshake that was accepted."""
        self._open.inc()

    def closed(self, code: str) -> None:
        """Count the end of a connection."""
        self._open.dec()
        self._closed.labels(code).inc()

    def refused(self, status: int) -> None:
        """Count a handshake that was refused; the reason is in `trio_mcp_refused_total`."""
        self._refused.labels(str(status)).inc()
