"""The MCP endpoint: one path for both eras, and the boundary where exceptions become HTTP responses.

gate (host, origin, caller, type, accept) ─▶ body ─▶ decode ─▶ era.route ─┬─▶ modern
                                                                          └─▶ legacy: opening · in session
"""

from __future__ import annotations

import logging

from trio_mcp.observability.logs import event
from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.era import InSession, Modern, Opening, Sessionless, names_modern, route
from trio_mcp.protocol.errors import INVALID_REQUEST, ProtocolError, RemoteProtocolError, http_status
from trio_mcp.protocol.jsonrpc import Batch, InvalidMessage, Message, Request, RequestId, decode
from trio_mcp.sessions.node_state import LifeCycle, Served
from trio_mcp.streams.account import Account, NoRoom
from trio_mcp.transports.http.cluster_port import ClusterPort
from trio_mcp.transports.http.exchange import BodyTooLarge, BodyTooSlow, ClientLeft, HttpExchange
from trio_mcp.transports.http.gate import Gate
from trio_mcp.transports.http.legacy import LegacyFront
from trio_mcp.transports.http.modern import ModernFront
from trio_mcp.transports.http.responses import HttpRefusal, send_empty, send_error, send_refusal
from trio_mcp.transports.request_head import HeaderList

__all__ = ["Endpoint"]

logger: logging.Logger = logging.getLogger("trio_mcp.http")

_CLOSE: HeaderList = [(b"connection", b"close")]
_RETRY_AFTER = (b"retry-after", b"5")

_PREFLIGHT: HeaderList = [
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"600"),
]


NO_SESSION = "Mcp-Session-Id is missing"
NO_WEBSOCKET = ", and a WebSocket is not served here: --websocket turns it on"

_OF_TASKS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Any node answers these, a draining one as well: a peer that broke off would make a task look lost."""


class Endpoint:
    """Serves `/mcp`. `max_body`: bytes of the largest request body."""

    def __init__(
        self,
        gate: Gate,
        legacy: LegacyFront,
        modern: ModernFront,
        refusals: Refusals,
        account: Account,
        life: LifeCycle,
        *,
        max_body: int,
    ) -> None:
        self.gate = gate
        self._refusals = refusals
        self.legacy = legacy
        self._modern = modern
        self._account = account
        self._life = life
        self._max_body = max_body
        self._cluster: ClusterPort | None = None

    def join(self, cluster: ClusterPort) -> None:
        """From now on this node is one of several, which `cluster` reaches."""
        self._cluster = cluster
        self.legacy.cluster = cluster

    async def handle(self, exchange: HttpExchange) -> None:
        """Answer one exchange.

        Raises what the server's `send` raises when the client is gone: OSError, BrokenResourceError, TooSlowError.
        """
        try:
            await self.gate.admit(exchange)
            await self._by_method(exchange)
        except HttpRefusal as refusal:
            await self._refuse(exchange, refusal)
        except BodyTooLarge:
            await self._refuse(exchange, HttpRefusal(413, f"The body is larger than {self._max_body} bytes", _CLOSE))
        except BodyTooSlow:
            message = "The body came too slowly while the server is short of memory"
            await self._refuse(exchange, HttpRefusal(408, message, _CLOSE, reason="slow_body"))
        except NoRoom:
            message = "The server has no memory left for this body; try again later"
            await self._refuse(exchange, HttpRefusal(503, message, [*_CLOSE, _RETRY_AFTER], reason="memory"))
        except ClientLeft:
            event(logger, logging.DEBUG, "client left before its request was complete", method=exchange.head.method)
        finally:
            if exchange.charged_to is not None:
                exchange.release()

    async def _refuse(self, exchange: HttpExchange, refusal: HttpRefusal, id: RequestId | None = None) -> None:
        if refusal.logged:
            self._refusals.count(refusal.status, refusal.reason)
        else:
            self._refusals.note(refusal.status, refusal.reason, **refusal.told)
        await send_refusal(exchange.carrier.send, refusal, exchange.cors, id)

    async def _by_method(self, exchange: HttpExchange) -> None:
        match exchange.head.method:
            case "POST":
                await self._post(exchange)
            case "GET":
                await self.legacy.get(exchange, _session_of(exchange))
            case "DELETE":
                await self.legacy.delete(exchange, _session_of(exchange))
            case "OPTIONS":
                await _answer_preflight(exchange)
            case _:
                raise HttpRefusal(405, "The MCP endpoint takes POST, GET and DELETE", _allow(b"GET, POST, DELETE"))

    async def _post(self, exchange: HttpExchange) -> None:
        body = await exchange.body(self._max_body, self._account)
        try:
            message = decode(body)
        except InvalidMessage as fault:
            self._refusals.note(400, "message")
            return await send_error(exchange.carrier.send, 400, fault, exchange.cors, fault.id)
        try:
            await self._route(exchange, message)
        except ProtocolError as fault:
            status = http_status(fault.code, modern=False)
            if status >= 400:
                self._refusals.note(status, "message")
            await send_error(exchange.carrier.send, status, fault, exchange.cors, _id_of(message))
        except HttpRefusal as refusal:
            await self._refuse(exchange, refusal, _id_of(message))

    async def _route(self, exchange: HttpExchange, message: Message | Batch) -> None:
        match route(message, version_header=exchange.head.version, session_id=exchange.head.session_id):
            case Modern(message=single):
                if not await self._passed_on(exchange, self._life.answers.modern, single):
                    await self._modern.post(exchange, single)
            case Opening(request=request):
                if not await self._passed_on(exchange, self._life.answers.initialize):
                    await self.legacy.open(exchange, request)
            case InSession(session_id=session_id, message=content):
                await self.legacy.post(exchange, session_id, content)
            case Sessionless():
                raise RemoteProtocolError(INVALID_REQUEST, "Mcp-Session-Id is missing: send initialize first")

    async def _passed_on(self, exchange: HttpExchange, served: Served, message: Message | None = None) -> bool:
        if self._cluster is None or served is Served.HERE:
            return False
        if isinstance(message, Request) and message.method in _OF_TASKS:
            return False
        return await self._cluster.pass_on(exchange)


async def _answer_preflight(exchange: HttpExchange) -> None:
    """CORS (Fetch standard): whatever headers an allowed page wants to send, it may."""
    asked = exchange.head.headers.get(b"access-control-request-headers")
    allowed = [(b"access-control-allow-headers", asked)] if asked else []
    cors = [*exchange.cors, *_PREFLIGHT, *allowed] if exchange.cors else []
    await send_empty(exchange.carrier.send, 204, [*cors, *_allow(b"GET, POST, DELETE, OPTIONS")])


def _session_of(exchange: HttpExchange) -> str:
    """The session that a GET or DELETE names. 405 in a version without sessions, 400 where none is named."""
    if exchange.head.version is not None and names_modern(exchange.head.version):
        raise HttpRefusal(405, "2026-07-28 has only POST", _allow(b"POST"))
    if exchange.head.session_id is None:
        raise HttpRefusal(400, NO_SESSION + (NO_WEBSOCKET if exchange.header(b"sec-websocket-version") else ""))
    return exchange.head.session_id


def _allow(methods: bytes) -> HeaderList:
    return [(b"allow", methods)]


def _id_of(message: Message | Batch) -> RequestId | None:
    """The id to answer under: a request's alone. The id in a client's response is one that the server gave."""
    return message.id if isinstance(message, Request) else None
