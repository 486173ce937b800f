"""Exchanges that stand alone (2026-07-28): the handler runs in the exchange's task, and closing the response cancels it."""

from __future__ import annotations

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
from trio_mcp.transports.http.event_stream import Pace, StreamHead, held_back, send_answer, stream
from trio_mcp.transports.http.gate import accepts
from trio_mcp.transports.http.mirror import check_mirrored, check_param_headers
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, send_empty, send_error

__all__ = ["ModernFront"]


class ModernFront:
    """Carries one message each."""

    def __init__(self, service: Service, pace: Pace, *, json_response: bool = False) -> None:
        self._service = service
        self._pace = pace
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
        log = EventLog(Budget(), expected=1)
        call = Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            who,
            Client(envelope.client_info, envelope.capabilities),
            _ExchangeOutbox(log, self._service.options.write_timeout, streams=takes_sse),
            log_level=envelope.log_level,
            headers=exchange.headers,
        )
        async with exchange.cancelled_when_client_leaves() as nursery:
            nursery.start_soon(respond, call)
            await self._deliver(exchange, log, request.method, headers, takes_sse=takes_sse)

    def _admit(self, exchange: HttpExchange, request: Request) -> Envelope:
        """The ladder of 2026-07-28: `_meta`, then headers against the body, then version, method, `Mcp-Param-*`."""
        envelope = read_envelope(request.params)
        check_mirrored(exchange, request, envelope.version)
        require_served(envelope.version)
        if self._service.method(request.method, envelope.version) is None:
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {request.method[:128]}")
        if request.method == "tools/call":
            check_param_headers(exchange, request, self._service.registry)
        return envelope

    async def _deliver(
        self, exchange: HttpExchange, log: EventLog, method: str, headers: HeaderList, *, takes_sse: bool
    ) -> None:
        answer = await held_back(log, self._pace.sse_after if takes_sse else float("inf"))
        if answer is not None:
            return await send_answer(exchange.send, answer, headers)
        kind: StreamKind = "listen" if method == "subscriptions/listen" else "post"
        self._service.metrics.stream_opened(kind)
        try:
            await stream(exchange.send, log.open_reader(), StreamHead(), self._pace, headers)
        finally:
            self._service.metrics.stream_closed(kind)


class _ExchangeOutbox:
    """The reader is the handler's own: a handler that sends waits until its client has read."""

    __slots__ = ("_log", "_patience", "_streams")

    answers_cancelled = True

    def __init__(self, log: EventLog, patience: float, *, streams: bool) -> None:
        self._log = log
        self._patience = patience
        self._streams = streams

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        # A client that takes only JSON gets the reply; without a stream there is nowhere to put the rest.
        if self._streams:
            self._log.append(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        try:
            self._log.finish(body or b"", status)
        except Overflow:
            self._log.end()

    async def settle(self) -> None:
        if self._streams:
            await self._log.flushed(self._patience)
        else:
            await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Modern streams cannot be resumed."""
