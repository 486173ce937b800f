"""Responses to requests whose session is not served here: it is unknown or over, on another node, or there is no room for it.

| raised | status | reason |
|---|---|---|
| SessionNotFound, SessionClosed | 404 | a `CloseReason` |
| Misdirected | 421 | said to a peer, which looks elsewhere |
| TooManyForCaller | 429 | `share` |
| TooManySessions | 503 | `full` |
| Unavailable | 503 | its own |
"""

from __future__ import annotations

from typing import Any, TypeAlias

from trio_mcp.dispatch.call import Service
from trio_mcp.observability.logs import session_label
from trio_mcp.protocol.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    SESSION_NOT_FOUND,
    ProtocolError,
    SessionClosed,
    SessionNotFound,
    TooManySessions,
    http_status,
)
from trio_mcp.protocol.jsonrpc import RequestId
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.shares import TooManyForCaller
from trio_mcp.transports.http.cluster_port import Misdirected, Unavailable
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import send_error, send_json

__all__ = ["NOT_SERVED", "NotServed", "SessionRefusals"]

RETRY_AFTER_SECONDS = 5
"""For an `initialize` that finds no room. The clients of the SDKs ignore it; balancers and people do not."""

NotServed: TypeAlias = SessionNotFound | SessionClosed | Misdirected | Unavailable | TooManySessions
NOT_SERVED = (SessionNotFound, SessionClosed, Misdirected, Unavailable, TooManySessions)
"""What may be raised while the session of a request is looked for."""


class SessionRefusals:
    """Sends these responses, counts them, and logs them."""

    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics
        self._refusals = service.refusals

    async def send(self, exchange: HttpExchange, fault: NotServed, id: RequestId | None = None) -> None:
        """Answer the exchange with what `fault` says; `id` is that of its request."""
        match fault:
            case SessionNotFound() | SessionClosed():
                await self._send_not_found(exchange, CloseReason.read(fault.reason), id)
            case TooManySessions():
                await self._send_full(exchange, fault, id)
            case Unavailable():
                self._note_miss(exchange, fault.reason, 503)
                data = {"reason": fault.reason}
                error = ProtocolError(INTERNAL_ERROR, str(fault), data)
                await send_error(exchange.send, 503, error, [(b"retry-after", b"1"), *exchange.cors], id)
            case Misdirected():
                await send_json(exchange.send, 421, fault.body, fault.headers)

    def _note_miss(self, exchange: HttpExchange, reason: str, status: int) -> None:
        self._metrics.misroute(reason, str(status))
        session = session_label(exchange.session_id or "")
        self._refusals.note(status, reason, name="session missed", session=session)

    async def _send_full(self, exchange: HttpExchange, fault: TooManySessions, id: RequestId | None) -> None:
        status, reason = (429, "share") if isinstance(fault, TooManyForCaller) else (503, "full")
        self._refusals.note(status, reason, why=str(fault))
        retry = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
        await send_error(exchange.send, status, ProtocolError(INVALID_REQUEST, str(fault)), [retry, *exchange.cors], id)

    async def _send_not_found(self, exchange: HttpExchange, reason: CloseReason, id: RequestId | None) -> None:
        self._note_miss(exchange, reason, 404)
        message = f"Session not found: {reason.explanation}. Send initialize without Mcp-Session-Id"
        data: dict[str, Any] = {"reason": reason, "reinitialize": True}
        status = http_status(SESSION_NOT_FOUND, modern=False)
        await send_error(exchange.send, status, ProtocolError(SESSION_NOT_FOUND, message, data), exchange.cors, id)
