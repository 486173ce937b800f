"""HTTP exchanges of sessions (up to 2025-11-25): each reads what the session's tasks write to a log.

POST ─▶ find the session ─▶ it starts a task for each request ─▶ the exchange reads the tasks' log: JSON, or a stream
GET  ─▶ find the session ─▶ the exchange reads the session's own log, or the rest of any log
        └─ not on this node: the cluster port has its node answer, or restores it here

"Disconnection SHOULD NOT be interpreted as the client cancelling its request" (2025-11-25 basic/transports): an exchange that
ends stops reading, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from trio_mcp.dispatch.call import Ending, Service
from trio_mcp.dispatch.discovery import initialize_result
from trio_mcp.observability.logs import session_label
from trio_mcp.observability.metrics import StreamKind
from trio_mcp.protocol.errors import (
    INVALID_REQUEST,
    REQUEST_CANCELLED,
    InvalidEventId,
    ProtocolError,
    RemoteProtocolError,
    SessionClosed,
    TooManySessions,
)
from trio_mcp.protocol.handshake import read_offer
from trio_mcp.protocol.jsonrpc import (
    Batch,
    InvalidMessage,
    Message,
    Notification,
    Reply,
    Request,
    RequestId,
    encode_result,
)
from trio_mcp.protocol.versions import LEGACY_VERSIONS, V2025_03_26, V2025_11_25
from trio_mcp.sessions.calls import TooManyRequests
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import LifeCycle, Served
from trio_mcp.sessions.shares import TooManyForCaller
from trio_mcp.sessions.streams import STANDALONE, EventId
from trio_mcp.streams.backlog import Overflow
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import Answer, EventLog
from trio_mcp.transports.http.allowed import Proxies
from trio_mcp.transports.http.cluster_port import ClusterPort, Local
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.permission import (
    also_asked,
    asked_by_subscriptions,
    require_permission,
    require_same_permission,
)
from trio_mcp.transports.http.responses import HttpRefusal, reply_json, send_answer, send_empty, send_error
from trio_mcp.transports.http.session_refusals import NOT_SERVED, SessionRefusals
from trio_mcp.transports.http.side_tasks import SideTasks
from trio_mcp.transports.request_head import HeaderList

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["LegacyFront"]


class LegacyFront:
    """Opens sessions, and carries messages to and from them.

    `json_response`: POSTs are answered in JSON alone, whatever their clients take.
    """

    def __init__(
        self,
        service: Service,
        hub: Hub,
        pace: Pace,
        side_tasks: SideTasks,
        life: LifeCycle,
        *,
        proxies: Proxies,
        json_response: bool = False,
    ) -> None:
        self._service = service
        self._hub = hub
        self._pace = pace
        self._side_tasks = side_tasks
        self._life = life
        self._json_response = json_response
        self._proxies = proxies
        self._refusals = SessionRefusals(service)
        self.cluster: ClusterPort | None = None
        """The other nodes; None where this one is alone."""

    async def open(self, exchange: HttpExchange, request: Request) -> None:
        """Answer an `initialize`. The id of the new session is a header of this response, and nowhere else.

        Raises RemoteProtocolError for params that do not fit.
        """
        began = trio.current_time()
        self._learn_address(exchange)
        try:
            session = await self._open_session(exchange, request)
        except TooManySessions as fault:
            if not isinstance(fault, TooManyForCaller) and await self._opened_by_peer(exchange):
                return
            self._measure(began, "", "full")
            return await self._refusals.send(exchange, fault, request.id)
        except RemoteProtocolError as fault:
            self._measure(began, "", str(fault.code))
            raise
        self._measure(began, session.protocol_version, None)
        body = encode_result(request.id, initialize_result(self._service, session.protocol_version))
        await self._send_opened(exchange, body, [(b"mcp-session-id", session.id.encode()), *exchange.cors])

    async def _open_session(self, exchange: HttpExchange, request: Request) -> LiveSession:
        offer = read_offer(request.params)
        if self._hub.get(exchange.head.session_id or "", exchange.principal) is not None:
            # Version and capabilities are negotiated once. The id of a session that is over is ignored: its client needs a new one.
            raise RemoteProtocolError(INVALID_REQUEST, "This session is already initialized")
        if self._life.answers.initialize is Served.PEER_ELSE_REFUSED:
            raise TooManySessions("This node is shutting down")
        return await self._hub.open(offer, exchange.principal, address=exchange.address)

    def _learn_address(self, exchange: HttpExchange) -> None:
        """Find out whose session it is, where sessions of one address are bounded: a peer may have to count it, or this node one of a peer."""
        if self._hub.options.max_per_address is None:
            return
        exchange.address = self._proxies.client_of(exchange)
        if exchange.head.hop is not None and self.cluster is not None:
            exchange.address = self.cluster.told_address(exchange, seen=exchange.address)

    async def _opened_by_peer(self, exchange: HttpExchange) -> bool:
        if self.cluster is None:
            return False
        await self._hub.shares.settled()
        return await self.cluster.open_at_peer(exchange)

    def _measure(self, began: float, version: str, error: str | None) -> None:
        seconds = trio.current_time() - began
        self._service.metrics.operation("initialize", tool=None, version=version, error=error, seconds=seconds)

    async def post(self, exchange: HttpExchange, session_id: str, message: Message | Batch) -> None:
        """Answer a POST: a message of a session, or a batch of them (2025-03-26)."""
        request_id = message.id if isinstance(message, Request) else None
        try:
            session = await self._find(exchange, session_id)
            if session is not None and session.calls.resumed is not None and _has_request(message):
                if not await session.calls.wait_resumed(request_id):
                    cancelled = ProtocolError(REQUEST_CANCELLED, Ending.CANCELLED.value)
                    return await send_error(exchange.carrier.send, 200, cancelled, exchange.cors, request_id)
                session = await self._find(exchange, session_id)
            if session is not None:
                await self._handle(exchange, session, message)
        except NOT_SERVED as fault:
            await self._refusals.send(exchange, fault, request_id)
        except TooManyRequests as fault:
            self._service.refusals.note(429, "in_flight", session=session_label(session_id))
            await send_error(exchange.carrier.send, 429, fault, [(b"retry-after", b"1"), *exchange.cors], request_id)

    async def get(self, exchange: HttpExchange, session_id: str) -> None:
        """Answer a GET: the session's own stream, or with `Last-Event-ID` the rest of the stream that the id names."""
        if not exchange.takes_sse:
            raise HttpRefusal(406, "Accept must allow text/event-stream")
        try:
            session = await self._find(exchange, session_id)
            if session is not None:
                await self._resume(exchange, session)
        except NOT_SERVED as fault:
            await self._refusals.send(exchange, fault)

    async def delete(self, exchange: HttpExchange, session_id: str) -> None:
        """Answer a DELETE: the session ends. 204, and 404 for every later request."""
        try:
            session = await self._find(exchange, session_id)
        except NOT_SERVED as fault:
            return await self._refusals.send(exchange, fault)
        if session is None:
            return
        await self._hub.end(session, CloseReason.DELETED)
        await send_empty(exchange.carrier.send, 204, exchange.cors)

    async def _find(self, exchange: HttpExchange, session_id: str) -> LiveSession | None:
        """The session; None when another node has answered the exchange.

        Raises SessionNotFound, and what `ClusterPort.route` raises.
        """
        if exchange.head.version is not None and exchange.head.version not in LEGACY_VERSIONS:
            # Another version of sessions than the negotiated one is served, by the negotiated one.
            raise HttpRefusal(400, f"MCP-Protocol-Version must be one of {', '.join(LEGACY_VERSIONS)} in a session")
        cluster = self.cluster
        if cluster is not None and cluster.overslept:
            await cluster.catch_up()
        session = self._hub.get(session_id, exchange.principal)
        if session is not None:
            return session
        if cluster is None:
            return await self._hub.find(session_id, exchange.principal)
        self._learn_address(exchange)
        route = await cluster.route(exchange, session_id)
        if not isinstance(route, Local):
            return None
        self._hub.came_from(route.session, exchange.address)
        return route.session

    async def _handle(self, exchange: HttpExchange, session: LiveSession, message: Message | Batch) -> None:
        if isinstance(message, Request):
            asked = exchange.token and require_permission(self._service, exchange, [message])
            log = session.accept(
                [message],
                who=exchange.principal,
                streams=self._may_stream(exchange),
                headers=exchange.head.headers,
                token=exchange.token,
            )
            if asked:
                self._ask_of_readers(exchange, session, log, [message], asked)
            await self._deliver(exchange, session, log, message.id)
        elif isinstance(message, list):
            await self._batch(exchange, session, message)
        else:
            session.receive(message)
            await send_empty(exchange.carrier.send, 202, exchange.cors)

    async def _resume(self, exchange: HttpExchange, session: LiveSession) -> None:
        last = exchange.header(b"last-event-id")
        try:
            log, prefix, after = _stream_after(session, last)
        except InvalidEventId as fault:
            raise HttpRefusal(400, str(fault)) from None
        if exchange.token is not None and log is session.streams.standalone:
            # A session that was restored has its subscriptions, and no stream yet that knows what they ask.
            also_asked(log, asked_by_subscriptions(self._service, session.subscriptions))
        if log.asked:
            require_same_permission(self._service, exchange, log.asked)
        kind: StreamKind = "get" if log is session.streams.standalone else "post"
        if last is not None:
            self._service.metrics.stream_resumed()
        await self._read(exchange, session, log, prefix, kind, after)

    def _may_stream(self, exchange: HttpExchange) -> bool:
        return exchange.takes_sse and not self._json_response

    async def _batch(self, exchange: HttpExchange, session: LiveSession, batch: Batch) -> None:
        if session.protocol_version != V2025_03_26:
            raise RemoteProtocolError(INVALID_REQUEST, "Batches were removed in 2025-06-18; send one message a POST")
        requests = [element for element in batch if isinstance(element, Request)]
        faults = [element for element in batch if isinstance(element, InvalidMessage)]
        if any(request.method == "initialize" for request in requests):
            raise RemoteProtocolError(INVALID_REQUEST, "initialize must not be part of a batch")
        asked = exchange.token and require_permission(self._service, exchange, requests)
        for element in batch:
            if isinstance(element, Notification | Reply):
                session.receive(element)
        if not requests and not faults:
            return await send_empty(exchange.carrier.send, 202, exchange.cors)
        log = session.accept(
            requests,
            who=exchange.principal,
            streams=self._may_stream(exchange),
            batched=True,
            faults=faults,
            headers=exchange.head.headers,
            token=exchange.token,
        )
        if asked:
            self._ask_of_readers(exchange, session, log, requests, asked)
        await self._deliver(exchange, session, log, None)

    def _ask_of_readers(
        self,
        exchange: HttpExchange,
        session: LiveSession,
        log: EventLog,
        requests: Iterable[Request],
        asked: tuple[Requirements, ...],
    ) -> None:
        """What was asked of the token of `requests` is asked of whoever reads what they send, there or on the session's own stream."""
        log.asked = asked
        if not self._may_stream(exchange) or any(each.method == "resources/subscribe" for each in requests):
            also_asked(session.streams.standalone, asked)

    async def _deliver(self, exchange: HttpExchange, session: LiveSession, log: EventLog, id: RequestId | None) -> None:
        """Answer a POST with what is in `log`, which this exchange only reads:

            session.accept ──starts──▶ a task of the session for each request ──append, finish──▶ log ──▶ this exchange

        As JSON when the reply comes before any other message and in time, as a stream otherwise. `id` is the request's, None
        of a batch.
        """
        try:
            answer = await self._answer_in_time(log)
        except BaseException:
            # An app around ours has cancelled the exchange. The calls go on, and their client can resume the stream.
            session.streams.make_resumable(log, id)
            raise
        if answer is not None and (exchange.takes_json or answer.status != 200):
            return await self._send_whole(exchange, session, log, answer)
        if not self._may_stream(exchange):
            return await self._send_late_json(exchange, session, log)
        prefix = session.streams.make_resumable(log, id)
        await self._read(exchange, session, log, prefix, "post")

    async def _answer_in_time(self, log: EventLog) -> Answer | None:
        """The answer, if it is complete before another message comes and the clock runs out; else None."""
        head = self._side_tasks.hold_head_back(log.stop_holding_back, trio.current_time())
        try:
            await log.wait_for_form()
        finally:
            head.release()
        return log.answer()

    async def _send_late_json(self, exchange: HttpExchange, session: LiveSession, log: EventLog) -> None:
        """For a client that takes only JSON: wait for the reply, however long, or until it disconnects.

        Other messages of its calls are on the session's own stream.
        """
        try:
            async with exchange.cancelled_when_client_leaves():
                await log.ended_by(math.inf)
                answer = log.answer()
                assert answer is not None, "nothing but replies is in this log"
                await self._send_whole(exchange, session, log, answer)
        finally:
            log.discard()

    async def _send_whole(self, exchange: HttpExchange, session: LiveSession, log: EventLog, answer: Answer) -> None:
        if log.holds_replies:
            log.discard()  # `send_answer` counts what is sent.
        await send_answer(exchange, answer, session.streams.budget, delay=self._pace.stream_delay)

    async def _read(
        self,
        exchange: HttpExchange,
        session: LiveSession,
        log: EventLog,
        prefix: str,
        kind: StreamKind,
        after: int | None = None,
    ) -> None:
        head = StreamHead(prefix, session.streams.mark() if session.protocol_version >= V2025_11_25 else None)
        try:
            reader = log.open_reader(after)
        except Overflow:
            session.close(CloseReason.OVERFLOW)
            raise SessionClosed(CloseReason.OVERFLOW) from None
        # What belongs to a call was allowed when the call began, and ends with it.
        ends_at = self._service.standing_until(exchange.token) if log is session.streams.standalone else math.inf
        session.add_reader()
        self._service.metrics.stream_opened(kind)
        try:
            async with exchange.cancelled_when_client_leaves():
                await EventStream(exchange, reader, head, self._pace, exchange.cors, ends_at=ends_at).run()
        finally:
            reader.leave()
            self._service.metrics.stream_closed(kind)
            session.remove_reader()

    async def _send_opened(self, exchange: HttpExchange, body: bytes, headers: HeaderList) -> None:
        if exchange.takes_json:
            return await reply_json(exchange, 200, body, headers)
        log = EventLog(Budget(account=self._service.account), expected=1, replays=False)
        log.finish(body, 200)
        try:
            await EventStream(exchange, log.open_reader(), StreamHead(), self._pace, headers).run()
        finally:
            log.discard()


def _has_request(message: Message | Batch) -> bool:
    if isinstance(message, list):
        return any(isinstance(element, Request) for element in message)
    return isinstance(message, Request)


def _stream_after(session: LiveSession, last: str | None) -> tuple[EventLog, str, int | None]:
    """What a GET with `Last-Event-ID` `last` reads: a log, the prefix of its event ids, and the event that comes before.

    Ids of an earlier life of the session (another epoch) name streams that are gone: of a call, the answer is that it is lost;
    of the standalone stream, whatever changed meanwhile, and all that this life has said: its client has received nothing of
    it, even if another connection was sent it. Raises InvalidEventId.
    """
    place = None if last is None else EventId.parse(last)
    if place is None or (place.stream == STANDALONE and place.epoch < session.streams.epoch):
        session.subscriptions.notify_missed()
        return session.streams.standalone, session.streams.standalone_prefix, None if place is None else 0
    if place.epoch < session.streams.epoch and place.request_id is not None:
        log, prefix = session.streams.of_lost_call(place.request_id)
        return log, prefix, None
    log, prefix = session.streams.find(place)
    return log, prefix, min(place.n, log.last)
