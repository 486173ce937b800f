"""One WebSocket as an ASGI app sees it: scope, `receive` and `send`. The only module that imports trio-websocket.

An app that does not accept answers with the messages of ASGI's `websocket.http.response`; the response is that of any exchange, and
the connection may be kept. After 101 the connection is the WebSocket's until it is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, ASGIApp, Message, Scope
from trio_mcp.transports.listener.exchange import Exchange
from trio_mcp.transports.listener.handshake import Handshake
from trio_mcp.transports.listener.response import ResponseError
from trio_mcp.transports.listener.upgraded_stream import UpgradedStream
from trio_mcp.transports.listener.wire import ClientDisconnected

__all__ = ["serve_websocket"]

CLOSE_SECONDS = 1.0
"""For a close frame to leave and the client's to come, as a client that is there sends at once."""

_SENT = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011})
"""The codes that are sent; others that may end a connection are the client's, or stand for a loss (RFC 6455 §7.4.1)."""
_LOST = 1006
_CRASHED = 1011
_GOING_AWAY = 1001

logger: logging.Logger = logging.getLogger(__name__)


async def serve_websocket(app: ASGIApp, exchange: Exchange) -> None:
    """Serve the handshake that `exchange` has read, and the WebSocket if `app` accepts it.

    Raises Refusal when it is no handshake as it must be, and what `app` raises.
    """
    socket = _WebSocket(exchange, Handshake(exchange.head))
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        socket.nursery = nursery
        code = _GOING_AWAY
        try:
            await app(socket.scope(), socket.receive, socket.send)
            code = _CRASHED
        except ClientDisconnected as error:
            logger.debug("%s: %s", exchange.wire.client, error)
        except Exception as error:
            code, failure = _CRASHED, error
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await socket.end(code)
            nursery.cancel_scope.cancel("the conversation has ended")
    if failure is not None:
        raise failure


class _WebSocket:
    """Between the app and the connection. `nursery`, where trio-websocket reads, is set before the app runs."""

    nursery: trio.Nursery

    def __init__(self, exchange: Exchange, handshake: Handshake) -> None:
        self._exchange = exchange
        self._handshake = handshake
        self._announced = False
        self._ended = False
        self._stream: UpgradedStream | None = None
        self._connection: WebSocketConnection | None = None

    def scope(self) -> Scope:
        """The ASGI connection scope."""
        offers = {
            "register": self._exchange.tell_when_client_leaves,
            "abort": self._abort,
            "on_progress": self._on_progress,
        }
        scope: dict[str, Any] = {**self._exchange.scope(), "type": "websocket", "scheme": "ws"}
        del scope["method"]
        scope["subprotocols"] = self._handshake.protocols
        scope["extensions"] = {"websocket.http.response": {}, DISCONNECT_EXTENSION: offers}
        return scope

    async def receive(self) -> Message:
        """ASGI `receive`: the handshake, then each message, then `websocket.disconnect`, again and again."""
        if not self._announced:
            self._announced = True
            return {"type": "websocket.connect"}
        if self._connection is None:
            await self._exchange.disconnected()
            return {"type": "websocket.disconnect", "code": _LOST, "reason": ""}
        try:
            return {"type": "websocket.receive", "text": await self._connection.get_message()}
        except ConnectionClosed:
            return await self._disconnected()

    async def send(self, message: Message) -> None:
        """ASGI `send`; raises ClientDisconnected when the connection is lost or closed, ResponseError when the app breaks the rules."""
        match message["type"]:
            case "websocket.send":
                await self._send(message)
            case "websocket.accept":
                await self._accept(message.get("subprotocol"), message.get("headers", ()))
            case "websocket.close":
                await self._close(message.get("code", 1000), message.get("reason") or "")
            case "websocket.http.response.start" | "websocket.http.response.body" as kind:
                await self._answer({**message, "type": kind.removeprefix("websocket.")})
            case other:
                raise ResponseError(f"{other!r} cannot be sent here")

    async def _accept(self, protocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._connection is not None or self._exchange.response.begun:
            raise ResponseError("websocket.accept sent when the handshake was answered")
        if protocol is not None and protocol not in self._handshake.protocols:
            raise ResponseError(f"websocket.accept chooses {protocol!r}, which was not offered")
        self._stream = UpgradedStream(self._exchange, self._handshake.head(protocol))
        # No queue: a message is handed over before the next is read. Its limit, in characters, is never reached: the stream counts bytes.
        request = await wrap_server_stream(
            self.nursery, self._stream, message_queue_size=0, max_message_size=self._exchange.limits.body_bytes
        )
        self._exchange.upgraded = True
        try:
            self._connection = await request.accept(subprotocol=protocol, extra_headers=list(headers))
        except ConnectionClosed:
            raise ClientDisconnected("the client left before its handshake was answered") from None
        self._stream.accepted.set()

    async def _answer(self, message: Message) -> None:
        if self._connection is not None:
            raise ResponseError("a response cannot be sent after websocket.accept")
        await self._exchange.send(message)

    async def _send(self, message: Message) -> None:
        if self._connection is None:
            raise ResponseError("websocket.send before websocket.accept")
        text = message.get("text")
        try:
            await self._connection.send_message(message["bytes"] if text is None else text)
        except ConnectionClosed:
            raise ClientDisconnected("the WebSocket is closed") from None

    async def _close(self, code: int, reason: str) -> None:
        if self._connection is None:
            # "If this is sent before the socket is accepted, the server must close the connection with a HTTP 403" ASGI WebSocket
            await self._exchange.send({"type": "http.response.start", "status": 403})
            await self._exchange.send({"type": "http.response.body"})
            return
        with trio.move_on_after(CLOSE_SECONDS):
            await self.end(code, reason)

    async def _disconnected(self) -> Message:
        """The connection is over: close it as its end demands, and tell the app."""
        code, reason = self._ending()
        with trio.move_on_after(CLOSE_SECONDS):
            await self._say(code, reason)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _ending(self) -> tuple[int, str]:
        """Code and reason of the end: what this side refused, or what the client said or did wrong."""
        assert self._stream is not None
        assert self._connection is not None
        if self._stream.refusal is not None:
            return self._stream.refusal.code, self._stream.refusal.reason
        closed = self._connection.closed
        return (_LOST, "") if closed is None else (int(closed.code), closed.reason or "")

    async def _say(self, code: int, reason: str) -> None:
        """Send the close frame, unless one was sent, or the client is gone, or `code` is none to be sent."""
        assert self._stream is not None
        if code in _SENT:
            await self._stream.send_close(code, reason)

    async def end(self, code: int, reason: str = "") -> None:
        """Close with `code`, if nothing else has ended the connection, and wait for the client's close frame. Once only."""
        stream, connection = self._stream, self._connection
        if stream is None or connection is None or self._ended:
            return
        self._ended = True
        if connection.closed is None:
            await self._say(code, reason)
            await _wait_closed(connection)
        else:
            await self._say(*self._ending())
        self._exchange.still_sending = stream.refusal is not None
        stream.close()

    def _abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()

    def _on_progress(self, callback: Callable[[], None]) -> None:
        self._exchange.on_progress = callback


async def _wait_closed(connection: WebSocketConnection) -> None:
    """Discard messages until the client has closed, too."""
    try:
        while True:
            await connection.get_message()
    except ConnectionClosed:
        pass
