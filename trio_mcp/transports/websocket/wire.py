"""One WebSocket as the ASGI server gives it: text in and out, a close with a code, and a cut."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from trio_mcp.observability.websocket_metrics import WebSocketMetrics
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, Message, Receive, Scope, Send
from trio_mcp.transports.websocket.closing import BINARY, TOO_LARGE, Close, by_client
from trio_mcp.transports.websocket.handshake import SUBPROTOCOL

__all__ = ["CLIENT_GONE", "WebSocketWire"]

CLIENT_GONE = (OSError, trio.BrokenResourceError, trio.TooSlowError)
"""What `send` raises when the client is gone, or takes nothing."""


class WebSocketWire:
    """`max_message` (bytes) and `write_seconds` are bounds of our own listener, too; other servers may have none, so they are kept here."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        metrics: WebSocketMetrics,
        *,
        max_message: int,
        write_seconds: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._metrics = metrics
        self._extension = scope.get("extensions", {}).get(DISCONNECT_EXTENSION)
        # Our own listener has a deadline for progress instead: a large message to a slow client needs longer.
        self._write_seconds = write_seconds if self._extension is None else math.inf
        self.max_message: int = max_message
        self.received: int = 0
        """Messages, by now."""
        self.sent: int = 0
        """Messages, by now."""
        self.used_at: float = trio.current_time()
        """When the last message came or went (trio clock)."""

    async def accept(self) -> None:
        """Complete the handshake. Raises one of CLIENT_GONE."""
        await self._receive()  # `websocket.connect`, which says nothing
        await self._send_within({"type": "websocket.accept", "subprotocol": SUBPROTOCOL, "headers": []})

    def call_on_progress(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever the client has taken a part of a long message, where the server can tell."""
        if self._extension is not None and "on_progress" in self._extension:
            self._extension["on_progress"](callback)

    async def receive(self) -> bytes | Close:
        """The next message, or how the connection ends."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return by_client(message.get("code") or 1005)
        text: str | None = message.get("text")
        if text is None:
            return BINARY
        self.received += 1
        self._metrics.received()
        self.used_at = trio.current_time()
        # A lone surrogate is no UTF-8; whoever decodes the message says so.
        data = text.encode("utf-8", "surrogatepass")
        return TOO_LARGE if len(data) > self.max_message else data

    async def write(self, message: bytes, _moved: Callable[[], None]) -> None:
        """Send one message. Raises one of CLIENT_GONE. Progress within it is told to `call_on_progress`."""
        await self._send_within({"type": "websocket.send", "text": message.decode()})
        self.sent += 1
        self._metrics.sent()
        self.used_at = trio.current_time()

    async def close(self, close: Close) -> None:
        """Send the close frame. Raises one of CLIENT_GONE."""
        await self._send_within({"type": "websocket.close", "code": close.code, "reason": close.reason})

    def abort(self) -> None:
        """Cut the connection, where the server can."""
        if self._extension is not None:
            self._extension["abort"]()

    async def _send_within(self, message: Message) -> None:
        with trio.fail_after(self._write_seconds):
            await self._send(message)
