"""Responses to requests whose session is not served here: it is unknown or over, on another node, or there is no room for it.

| raised | status | reason |
|---|---|---|
| SessionNotFound, SessionClosed | 404 | a `CloseReason` |
| Misdirected | 421 | said to a peer, which looks elsewhere |
| TooManyForCaller | 429 | `share` |
| TooManySessions, on `initialize` or when a session is restored | 503 | `full` |
| Unavailable | 503 | its own |

All ways to a 404 for a session:

| where | when | reason |
|---|---|---|
| `Hub.find`, on a node without a cluster | it ended within the last hour | why (`MemoryDirectory.why_gone`) |
| | it never was, is another principal's, or ended earlier | `unknown` |
| | it is closed, and its last tasks still end | why |
| `SessionRouter.route`, in a cluster | the id has a form that no node makes | `unknown` |
| `routing.decide` → `NotFound` | our own copy is closed, and the session does not go on elsewhere | why, as peers see it |
| | the record is another principal's | `unknown` |
| | Redis is away, and it ended here within the last hour | why |
| | no record: a tombstone, or it ended here; else no node can have it | why, else `unknown` |
| | no record: the node in the id denies it, has no card, or is gone | `unknown` |
| | the record is ours, and the session ended here | why, else `unknown` |
| | its node is gone and it cannot be restored; a tombstone may be written | `node_gone` |
| `Restorer`, from `Hub.restore` | an `on_restore` function raised, or all took over 30 s | `crashed` |
| `legacy._read` | a reader opened and too much was unread: the session ends | `overflow` |
| `LiveSession.accept` | it was closed since it was found | why |
| `facts.after_relay` | the owner answered 404, which is passed on as it is | the owner's |

No 404 says `elsewhere`: that is what `Hub.has_session` finds in the directory.
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
"""Where there is no room to open or restore a session. The clients of the SDKs ignore it; balancers and people do not."""

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
                await send_error(exchange.carrier.send, 503, error, [(b"retry-after", b"1"), *exchange.cors], id)
            case Misdirected():
                self._metrics.misroute("elsewhere", "421")
                await send_json(exchange.carrier.send, 421, fault.body, fault.headers)

    def _note_miss(self, exchange: HttpExchange, reason: str, status: int) -> None:
        self._metrics.misroute(reason, str(status))
        session = session_label(exchange.head.session_id or "")
        self._refusals.note(status, reason, name="session missed", session=session)

    async def _send_full(self, exchange: HttpExchange, fault: TooManySessions, id: RequestId | None) -> None:
        status, reason = (429, "share") if isinstance(fault, TooManyForCaller) else (503, "full")
        self._refusals.note(status, reason, why=str(fault))
        retry = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
        await send_error(
            exchange.carrier.send, status, ProtocolError(INVALID_REQUEST, str(fault)), [retry, *exchange.cors], id
        )

    async def _send_not_found(self, exchange: HttpExchange, reason: CloseReason, id: RequestId | None) -> None:
        self._note_miss(exchange, reason, 404)
        message = f"Session not found: {reason.explanation}. Send initialize without Mcp-Session-Id"
        data: dict[str, Any] = {"reason": reason, "reinitialize": True}
        status = http_status(SESSION_NOT_FOUND, modern=False)
        await send_error(
            exchange.carrier.send, status, ProtocolError(SESSION_NOT_FOUND, message, data), exchange.cors, id
        )
