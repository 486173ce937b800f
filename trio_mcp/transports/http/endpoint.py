"""The MCP endpoint: one path, both eras; the boundary where exceptions become HTTP.

gate (host, origin, method, type, accept, size, who) ─▶ decode ─▶ era.route ─┬─▶ modern
                                                                             └─▶ legacy: opening · in session
"""

from __future__ import annotations

import logging

from trio_mcp.auth.principal import Principal
from trio_mcp.observability.logs import event
from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.era import InSession, Modern, Opening, Sessionless, names_modern, route
from trio_mcp.protocol.errors import INVALID_REQUEST, ProtocolError, RemoteProtocolError, http_status
from trio_mcp.protocol.jsonrpc import Batch, InvalidMessage, Message, Request, RequestId, decode
from trio_mcp.sessions.node_state import LifeCycle, Served
from trio_mcp.streams.account import Account, NoRoom
from trio_mcp.transports.http.cluster_port import ClusterPort
from trio_mcp.transports.http.gate import Gate, accepts, is_json
from trio_mcp.transports.http.legacy import LegacyFront
from trio_mcp.transports.http.modern import ModernFront
from trio_mcp.transports.http.request import BodyTooLarge, BodyTooSlow, ClientLeft, HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal, send_empty, send_error, send_refusal

__all__ = ["Endpoint"]

logger = logging.getLogger("trio_mcp.http")

_SESSION = b"mcp-session-id"
_VERSION = b"mcp-protocol-version"

_RETRY_AFTER = (b"retry-after", b"5")

_PREFLIGHT: HeaderList = [
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"600"),
]


class Endpoint:
    """Serves `/mcp`."""

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
        """From now on this node is one of several."""
        self._cluster = cluster
        self.legacy.cluster = cluster

    async def handle(self, exchange: HttpExchange) -> None:
        """Answer one exchange; raises OSError when the client is gone."""
        headers: HeaderList = []
        try:
            self.gate.check_host(exchange)
            headers = self.gate.check_origin(exchange)
            if exchange.method == "OPTIONS":
                return await self._preflight(exchange, headers)
            who = await self.gate.check_principal(exchange)
            if exchange.repeats(_SESSION):
                raise HttpRefusal(400, "Mcp-Session-Id comes more than once")
            await self._by_method(exchange, who, headers)
        except HttpRefusal as refusal:
            await self._refuse(exchange, refusal, headers)
        except BodyTooLarge:
            too_large = HttpRefusal(413, f"The body is larger than {self._max_body} bytes")
            await self._refuse(exchange, too_large, [(b"connection", b"close"), *headers])
        except BodyTooSlow:
            too_slow = HttpRefusal(
                408, "The body came too slowly while the server is short of memory", reason="slow_body"
            )
            await self._refuse(exchange, too_slow, [(b"connection", b"close"), *headers])
        except NoRoom:
            no_room = HttpRefusal(503, "The server has no memory left for this body; try again later", reason="memory")
            await self._refuse(exchange, no_room, [(b"connection", b"close"), _RETRY_AFTER, *headers])
        except ClientLeft:
            event(logger, logging.DEBUG, "client left before its request was complete", method=exchange.method)
        finally:
            exchange.release()

    async def _refuse(
        self, exchange: HttpExchange, refusal: HttpRefusal, headers: HeaderList, id: RequestId | None = None
    ) -> None:
        if refusal.logged:
            self._refusals.count(refusal.status, refusal.reason)
        else:
            self._refusals.note(refusal.status, refusal.reason, **refusal.told)
        await send_refusal(exchange.send, refusal, headers, id)

    async def _by_method(self, exchange: HttpExchange, who: Principal, headers: HeaderList) -> None:
        match exchange.method:
            case "POST":
                await self._post(exchange, who, headers)
            case "GET":
                await self.legacy.get(exchange, self._session_id(exchange), who, headers)
            case "DELETE":
                await self.legacy.delete(exchange, self._session_id(exchange), who, headers)
            case _:
                raise HttpRefusal(405, "The MCP endpoint takes POST, GET and DELETE", _allow(b"GET, POST, DELETE"))

    async def _preflight(self, exchange: HttpExchange, headers: HeaderList) -> None:
        """CORS (Fetch standard): whatever headers an allowed page wants to send, it may."""
        asked = exchange.headers.get(b"access-control-request-headers")
        allowed = [(b"access-control-allow-headers", asked)] if asked and headers else []
        cors = [*headers, *_PREFLIGHT, *allowed] if headers else []
        await send_empty(exchange.send, 204, [*cors, *_allow(b"GET, POST, DELETE, OPTIONS")])

    def _session_id(self, exchange: HttpExchange) -> str:
        """GET and DELETE belong to sessions: 405 for who has none by its version, 400 for who forgot it."""
        version = _version(exchange)
        if version is not None and names_modern(version):
            raise HttpRefusal(405, "2026-07-28 has only POST", _allow(b"POST"))
        session_id = exchange.header(_SESSION)
        if not session_id:
            raise HttpRefusal(400, "Mcp-Session-Id is missing")
        return session_id

    async def _post(self, exchange: HttpExchange, who: Principal, headers: HeaderList) -> None:
        if not is_json(exchange):
            raise HttpRefusal(415, "Content-Type must be application/json")
        taken = accepts(exchange)
        if not (taken.json or taken.sse):
            raise HttpRefusal(406, "Accept must allow application/json or text/event-stream")
        body = await exchange.body(self._max_body, self._account)
        try:
            message = decode(body)
        except InvalidMessage as fault:
            self._refusals.note(400, "message")
            return await send_error(exchange.send, 400, fault, headers, fault.id)
        try:
            await self._route(exchange, message, who, headers)
        except ProtocolError as fault:
            status = http_status(fault.code, modern=False)
            if status >= 400:
                self._refusals.note(status, "message")
            await send_error(exchange.send, status, fault, headers, _id_of(message))
        except HttpRefusal as refusal:
            await self._refuse(exchange, refusal, headers, _id_of(message))

    async def _route(
        self, exchange: HttpExchange, message: Message | Batch, who: Principal, headers: HeaderList
    ) -> None:
        match route(message, version_header=_version(exchange), session_id=exchange.header(_SESSION)):
            case Modern(message=single):
                if not await self._passed_on(exchange, self._life.answers.modern):
                    await self._modern.post(exchange, single, who, headers)
            case Opening(request=request):
                if not await self._passed_on(exchange, self._life.answers.initialize):
                    await self.legacy.open(exchange, request, who, headers)
            case InSession(session_id=session_id, message=content):
                await self.legacy.post(exchange, session_id, content, who, headers)
            case Sessionless():
                raise RemoteProtocolError(INVALID_REQUEST, "Mcp-Session-Id is missing: send initialize first")

    async def _passed_on(self, exchange: HttpExchange, served: Served) -> bool:
        if self._cluster is None or served is Served.HERE:
            return False
        return await self._cluster.pass_on(exchange)


def _version(exchange: HttpExchange) -> str | None:
    """What MCP-Protocol-Version says; an empty one says nothing."""
    return exchange.header(_VERSION) or None


def _allow(methods: bytes) -> HeaderList:
    return [(b"allow", methods)]


def _id_of(message: Message | Batch) -> RequestId | None:
    """Only a request's: the id in a client's response is one of ours, and names nothing of the client's."""
    return message.id if isinstance(message, Request) else None
