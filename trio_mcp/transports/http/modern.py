"""Exchanges that stand alone (2026-07-28): the handler runs in the exchange's task, and closing the response cancels it.

exchange's task ─▶ handler ─▶ done before anything was said ─▶ JSON
                      │
                      └─ says something, or takes long ─▶ a companion streams, and the handler waits for its reader
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Call, Client
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.service import Service
from trio_mcp.observability.metrics import Metrics, StreamKind
from trio_mcp.protocol.envelope import Envelope, read_envelope, require_served
from trio_mcp.protocol.errors import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NoBackChannel,
    ProtocolError,
    RemoteProtocolError,
    http_status,
)
from trio_mcp.protocol.jsonrpc import Message, Notification, Request
from trio_mcp.streams.account import Account
from trio_mcp.streams.backlog import Kind, Overflow
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import Answer, EventLog
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead
from trio_mcp.transports.http.gate import accepts, may_be_json
from trio_mcp.transports.http.mirror import check_mirrored, check_param_headers
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal, send_answer, send_empty, send_error
from trio_mcp.transports.http.side_tasks import DISMISSAL_SECONDS, HoldBackClock, SideTask, SideTasks

__all__ = ["Delivery", "ModernFront"]


class ModernFront:
    """Carries one message each."""

    def __init__(
        self,
        service: Service,
        pace: Pace,
        hold_back: HoldBackClock,
        side_tasks: SideTasks,
        *,
        json_response: bool = False,
    ) -> None:
        self._service = service
        self._pace = pace
        self._hold_back = hold_back
        self._companions = side_tasks
        self._json_response = json_response

    async def post(self, exchange: HttpExchange, message: Message, who: Principal, headers: HeaderList) -> None:
        """A request, or a notification: accepted, and never acted on (ids are the client's choice, not a name)."""
        match message:
            case Request():
                await self._request(exchange, message, who, headers)
            case Notification():
                await send_empty(exchange.send, 202, headers)
            case _:
                raise RemoteProtocolError(INVALID_REQUEST, "2026-07-28 has no responses from clients: send a retry")

    async def _request(self, exchange: HttpExchange, request: Request, who: Principal, headers: HeaderList) -> None:
        try:
            envelope = self._admit(exchange, request)
        except ProtocolError as fault:
            status = http_status(fault.code, modern=True)
            if status >= 400:
                self._service.refusals.note(status, "message")
            return await send_error(exchange.send, status, fault, headers, request.id)
        takes_sse = accepts(exchange).sse and not (self._json_response and request.method != "subscriptions/listen")
        kind: StreamKind = "listen" if request.method == "subscriptions/listen" else "post"
        scope = trio.CancelScope()
        delivery = Delivery(
            exchange,
            self._companions,
            scope,
            self._pace,
            self._service.metrics,
            self._service.account,
            kind,
            headers,
            streams=takes_sse,
        )
        watcher = self._watch(exchange, delivery)
        ticket = self._hold_back.begin(delivery.open_stream) if takes_sse else None
        try:
            await respond(self._call(exchange, request, envelope, who, delivery, scope))
            if ticket is not None:
                ticket.release()
            if not exchange.left:
                await delivery.complete()
        finally:
            if ticket is not None:
                ticket.release()
            for companion in (watcher, delivery.streamer):
                if companion is not None:
                    with trio.move_on_after(DISMISSAL_SECONDS, shield=True):
                        await companion.dismiss()

    def _watch(self, exchange: HttpExchange, delivery: Delivery) -> SideTask | None:
        if exchange.tell_when_client_leaves(delivery.client_left):
            return None
        return self._companions.start(partial(exchange.watch_client, delivery.client_left), delivery.client_left)

    def _call(
        self,
        exchange: HttpExchange,
        request: Request,
        envelope: Envelope,
        who: Principal,
        delivery: Delivery,
        scope: trio.CancelScope,
    ) -> Call:
        return Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            who,
            Client(envelope.client_info, envelope.capabilities),
            delivery,
            log_level=envelope.log_level,
            headers=exchange.headers,
            scope=scope,
        )

    def _admit(self, exchange: HttpExchange, request: Request) -> Envelope:
        """The ladder of 2026-07-28: `_meta`, then headers against the body, then version, method, `Mcp-Param-*`."""
        envelope = read_envelope(request.params)
        check_mirrored(exchange, request, envelope.version)
        require_served(envelope.version)
        if request.method not in self._service.methods(envelope.version):
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {request.method[:128]}")
        if request.method == "subscriptions/listen" and not accepts(exchange).sse:
            raise HttpRefusal(406, "subscriptions/listen is answered by a stream: Accept must allow text/event-stream")
        if request.method == "tools/call":
            check_param_headers(exchange, request, self._service.registry)
        return envelope


class Delivery:
    """The outbox of one exchange."""

    __slots__ = (
        "_account",
        "_answer",
        "_call_scope",
        "_companions",
        "_exchange",
        "_headers",
        "_kind",
        "_log",
        "_metrics",
        "_pace",
        "_streamer",
        "_streams",
    )

    answers_cancelled = True

    def __init__(
        self,
        exchange: HttpExchange,
        side_tasks: SideTasks,
        call_scope: trio.CancelScope,
        pace: Pace,
        metrics: Metrics,
        account: Account,
        kind: StreamKind,
        headers: HeaderList,
        *,
        streams: bool,
    ) -> None:
        self._exchange = exchange
        self._companions = side_tasks
        self._call_scope = call_scope
        self._pace = pace
        self._metrics = metrics
        self._account = account
        self._kind = kind
        self._headers = headers
        self._streams = streams
        """Whether the client takes a stream; otherwise it gets the reply and nothing else."""
        self._answer: Answer | None = None
        self._log: EventLog | None = None
        self._streamer: SideTask | None = None

    @property
    def holder(self) -> None:
        """The exchange stands alone."""
        return None

    def open_stream(self) -> EventLog:
        """From now on messages go out as they come."""
        if self._log is None:
            self._log = EventLog(Budget(account=self._account), expected=1, replays=False)
            self._streamer = self._companions.start(partial(self._stream, self._log), self._call_scope.cancel)
        return self._log

    def client_left(self) -> None:
        """Closing the response stream is cancellation (2026-07-28 streamable-http)."""
        self._exchange.left = True
        self._call_scope.cancel("the client disconnected")
        if self._streamer is not None:
            self._streamer.cancel()

    async def complete(self) -> None:
        """Send the reply, or wait until all is streamed; raises OSError when the client is gone."""
        if self._answer is not None:
            # A handler that never blocks must not keep its turn; and when all who were ready have had theirs, their answers
            # leave in a row, which costs the kernel a third less than one by one.
            await trio.lowlevel.checkpoint()
            await self._reply(self._answer)
        elif self._streamer is not None:
            await self._streamer.finished()

    @property
    def streamer(self) -> SideTask | None:
        """Who streams, if anybody does."""
        return self._streamer

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """The first message opens the stream."""
        if self._streams:
            self.open_stream().append(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        """Keep the reply for `complete`, unless a stream is there to take it."""
        if self._log is None:
            self._answer = Answer(body or b"", status)
            return
        try:
            self._log.finish(body or b"", status)
        except Overflow:
            self._log.end()

    async def settle(self) -> None:
        """Raises SlowReader."""
        if self._log is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._log.flushed(self._pace.write_timeout)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Modern questions end the call instead."""
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Modern streams cannot be resumed."""

    async def _reply(self, answer: Answer) -> None:
        if may_be_json(self._exchange, answer):
            return await send_answer(
                self._exchange, answer, self._headers, self._account, delay=self._pace.stream_delay
            )
        log = EventLog(Budget(account=self._account), expected=1, replays=False)
        log.finish(answer.body, answer.status)
        await self._stream(log)

    async def _stream(self, log: EventLog) -> None:
        self._metrics.stream_opened(self._kind)
        try:
            await EventStream(self._exchange, log.open_reader(), StreamHead(), self._pace, self._headers).run()
        finally:
            log.discard()
            self._metrics.stream_closed(self._kind)
