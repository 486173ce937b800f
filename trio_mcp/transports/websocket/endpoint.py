"""The MCP endpoint over WebSocket: the gate before the 101, how many may be open, and the end of all in a drain.

Checked in the order of the HTTP endpoint: host (421), origin (403), who (401); then the subprotocol (400) and whether there is room
(503). The path was matched before, as for HTTP.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from functools import partial

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Service
from trio_mcp.observability.logs import event
from trio_mcp.observability.websocket_metrics import WebSocketMetrics
from trio_mcp.protocol.errors import INVALID_REQUEST, ProtocolError
from trio_mcp.protocol.jsonrpc import Request
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.node_state import Claims, LifeCycle
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.channel.channel import Caller
from trio_mcp.transports.http.allowed import Proxies
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.gate import Gate
from trio_mcp.transports.http.permission import require_permission
from trio_mcp.transports.http.responses import HttpRefusal, send_refusal
from trio_mcp.transports.websocket import closing
from trio_mcp.transports.websocket.closing import code_label
from trio_mcp.transports.websocket.connection import Connection
from trio_mcp.transports.websocket.handshake import SUBPROTOCOL, offered
from trio_mcp.transports.websocket.wire import WebSocketWire

__all__ = ["WebSocketEndpoint"]

logger: logging.Logger = logging.getLogger("trio_mcp.websocket")

_RETRY_AFTER = (b"retry-after", b"5")

_NEVER = 1e12
"""Unix time in seconds, some 30,000 years from now: what ends later does not end. Integers may be too large for a float."""


class WebSocketEndpoint:
    """Serves the WebSockets of one app.

    `max_open` is how many at once; `max_message` is in bytes.
    """

    def __init__(
        self,
        service: Service,
        hub: Hub,
        gate: Gate,
        life: LifeCycle,
        proxies: Proxies,
        max_open: int,
        max_message: int,
    ) -> None:
        self._service = service
        self._hub = hub
        self._gate = gate
        self._life = life
        self._proxies = proxies
        self._max_open = max_open
        self._max_message = max_message
        self._metrics = WebSocketMetrics(service.metrics.registry)
        self.connections: set[Connection] = set()
        """Those that are open."""

    async def handle(self, exchange: HttpExchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a handshake, or accept it and serve until it ends.

        `exchange` is the handshake as a GET; `scope`, `receive` and `send` are those of the WebSocket.
        """
        try:
            await self._gate.admit(exchange)
            self._check_protocol(scope)
            self._check_room()
        except HttpRefusal as refusal:
            if refusal.logged:
                self._service.refusals.count(refusal.status, refusal.reason)
            else:
                self._service.refusals.note(refusal.status, refusal.reason, **refusal.told)
            self._metrics.refused(refusal.status)
            return await send_refusal(exchange.carrier.send, refusal, exchange.cors)
        wire = WebSocketWire(
            scope,
            receive,
            send,
            self._metrics,
            max_message=self._max_message,
            write_seconds=self._service.options.write_timeout,
        )
        await self._serve(exchange, wire)

    async def end_all(self) -> None:
        """End those that are left, with 1001: each when its calls have been answered. Returns when they have ended."""
        async with trio.open_nursery() as nursery:
            for connection in list(self.connections):
                nursery.start_soon(connection.end_at_rest, closing.GOING_AWAY)

    def enders(self, nursery: trio.Nursery) -> list[partial[None]]:
        """What ends each of them with 1001, as soon as none of its calls runs; the tasks that wait for that run in `nursery`."""
        return [
            partial(nursery.start_soon, connection.end_at_rest, closing.GOING_AWAY) for connection in self.connections
        ]

    @staticmethod
    def _check_protocol(scope: Scope) -> None:
        if SUBPROTOCOL not in offered(scope):
            raise HttpRefusal(400, "Sec-WebSocket-Protocol: mcp is required", reason="subprotocol")

    def _check_room(self) -> None:
        if self._life.answers.claims is Claims.NO_MORE:
            raise HttpRefusal(503, "This node is shutting down", [_RETRY_AFTER], reason="draining")
        if len(self.connections) >= self._max_open:
            message = f"This node serves at most {self._max_open} WebSockets"
            raise HttpRefusal(503, message, [_RETRY_AFTER], reason="websockets", flag="--max-websockets")
        if not self._hub.takes_more:
            raise HttpRefusal(503, "This node has no room for another session", [_RETRY_AFTER], reason="full")

    async def _serve(self, exchange: HttpExchange, wire: WebSocketWire) -> None:
        connection = Connection(
            self._service,
            self._hub,
            wire,
            self._caller(exchange),
            address=self._proxies.client_of(exchange),
            idle_seconds=self._hub.options.session_idle_timeout,
            expires=self._expires(exchange),
        )
        began = trio.current_time()
        self.connections.add(connection)
        self._metrics.opened()
        event(logger, logging.INFO, "websocket opened", status=101, open=len(self.connections))
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._note_end(connection, wire, trio.current_time() - began)

    def _note_end(self, connection: Connection, wire: WebSocketWire, seconds: float) -> None:
        close, session = connection.close or closing.CRASHED, connection.session
        self._metrics.closed(code_label(close.code))
        event(
            logger,
            logging.INFO,
            "websocket closed",
            code=close.code,
            why=close.reason,
            session=None if session is None else session.short_id,
            received=wire.received,
            sent=wire.sent,
            seconds=round(seconds, 3),
        )

    def _caller(self, exchange: HttpExchange) -> Caller:
        return Caller(
            exchange.principal,
            exchange.head.headers,
            exchange.token,
            permit=partial(self._permit, exchange) if self._service.auth is not None else lambda requests: None,
        )

    def _permit(self, exchange: HttpExchange, requests: Sequence[Request]) -> None:
        """As over HTTP, where the answer is a 403: the same error, and counted under the same reason."""
        try:
            require_permission(self._service, exchange, requests)
        except HttpRefusal as refusal:
            self._service.refusals.note(refusal.status, refusal.reason, **refusal.told)
            raise ProtocolError(INVALID_REQUEST, refusal.message, refusal.data) from None

    def _expires(self, exchange: HttpExchange) -> float:
        """When the authentication of a connection that opens now ends (trio clock); infinite for one that does not."""
        auth, token = self._service.auth, exchange.token
        if auth is not None and token is not None:
            ends, now = auth.refused_from(token, random.random()), auth.now()
        else:
            ends, now = _expiry(exchange.principal), time.time()
        return math.inf if ends is None else trio.current_time() + max(0.0, ends - now)


def _expiry(principal: Principal) -> float | None:
    """The `exp` claim, where a function of the server's author has said who it is (RFC 7519 §4.1.4). None: it is no time, or does not come."""
    expires = principal.claims.get("exp")
    return float(max(expires, 0)) if isinstance(expires, int | float) and expires < _NEVER else None
