"""Exchanges that stand alone (2026-07-28): the handler runs in the exchange's task, and closing the response cancels it.

exchange's task ─▶ handler ─▶ done before anything was said ─▶ JSON
                      │
                      └─ says something, or takes long ─▶ a child task streams, and the handler waits for its reader
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Call, Client
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.service import Service
from trio_mcp.observability.metrics import StreamKind
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
from trio_mcp.streams.event_log import Budget, EventLog, Kind, Overflow
from trio_mcp.transports.http.event_stream import Pace, StreamHead, send_answer, stream
from trio_mcp.transports.http.gate import accepts, may_be_json
from trio_mcp.transports.http.hold_back import HoldBack
from trio_mcp.transports.http.mirror import check_mirrored, check_param_headers
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal, send_empty, send_error

__all__ = ["ModernFront"]


class ModernFront:
    """Carries one message each."""

    def __init__(self, service: Service, pace: Pace, hold_back: HoldBack, *, json_response: bool = False) -> None:
        self._service = service
        self._pace = pace
        self._hold_back = hold_back
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
            return await send_error(exchange.send, status, fault, headers, request.id)
        takes_sse = accepts(exchange).sse and not (self._json_response and request.method != "subscriptions/listen")
        kind: StreamKind = "listen" if request.method == "subscriptions/listen" else "post"
        log = EventLog(Budget(), expected=1)
        async with trio.open_nursery() as nursery:
            delivery = _Delivery(nursery, partial(self._stream, exchange, log, kind, headers))
            outbox = _ExchangeOutbox(log, delivery if takes_sse else None, self._service.options.write_timeout)
            watched = exchange.watch_client(nursery)
            ticket = self._hold_back.begin(delivery.start) if takes_sse else None
            try:
                await respond(self._call(exchange, request, envelope, who, outbox))
            finally:
                # Also when the client has left: nothing may start in a nursery that is closed.
                if ticket is not None:
                    ticket.release()
            if takes_sse and (whole := log.answer()) is not None and not may_be_json(exchange, whole):
                delivery.start()
            await delivery.finished()
            if watched:
                nursery.cancel_scope.cancel("the exchange is over")
        answer = log.answer()
        if answer is not None and not delivery.started:
            await send_answer(exchange.send, answer, headers)

    def _call(
        self, exchange: HttpExchange, request: Request, envelope: Envelope, who: Principal, outbox: _ExchangeOutbox
    ) -> Call:
        return Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            who,
            Client(envelope.client_info, envelope.capabilities),
            outbox,
            log_level=envelope.log_level,
            headers=exchange.headers,
        )

    def _admit(self, exchange: HttpExchange, request: Request) -> Envelope:
        """The ladder of 2026-07-28: `_meta`, then headers against the body, then version, method, `Mcp-Param-*`."""
        envelope = read_envelope(request.params)
        check_mirrored(exchange, request, envelope.version)
        require_served(envelope.version)
        if self._service.method(request.method, envelope.version) is None:
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {request.method[:128]}")
        if request.method == "subscriptions/listen" and not accepts(exchange).sse:
            raise HttpRefusal(406, "subscriptions/listen is answered by a stream: Accept must allow text/event-stream")
        if request.method == "tools/call":
            check_param_headers(exchange, request, self._service.registry)
        return envelope

    async def _stream(self, exchange: HttpExchange, log: EventLog, kind: StreamKind, headers: HeaderList) -> None:
        self._service.metrics.stream_opened(kind)
        try:
            await stream(exchange, log.open_reader(), StreamHead(), self._pace, headers)
        finally:
            self._service.metrics.stream_closed(kind)


class _Delivery:
    """The streaming child of an exchange, started when there is something to stream and not before."""

    __slots__ = ("_done", "_nursery", "_stream", "started")

    def __init__(self, nursery: trio.Nursery, stream: Callable[[], Awaitable[None]]) -> None:
        self.started = False
        self._nursery = nursery
        self._stream = stream
        self._done: trio.Event | None = None

    def start(self) -> None:
        """Start it, once."""
        if not self.started:
            self.started = True
            self._done = trio.Event()
            self._nursery.start_soon(self._run, self._done)

    async def finished(self) -> None:
        """Wait until all is written, if anything is."""
        if self._done is not None:
            await self._done.wait()

    async def _run(self, done: trio.Event) -> None:
        await self._stream()
        done.set()


class _ExchangeOutbox:
    """The reader is the handler's own: a handler that sends waits until its client has read."""

    __slots__ = ("_delivery", "_log", "_patience")

    answers_cancelled = True

    def __init__(self, log: EventLog, delivery: _Delivery | None, patience: float) -> None:
        self._log = log
        self._delivery = delivery
        self._patience = patience

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        # A client that takes only JSON gets the reply; without a stream there is nowhere to put the rest.
        if self._delivery is not None:
            self._delivery.start()
            self._log.append(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        try:
            self._log.finish(body or b"", status)
        except Overflow:
            self._log.end()

    async def settle(self) -> None:
        if self._delivery is not None:
            await self._log.flushed(self._patience)
        else:
            await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Modern streams cannot be resumed."""
