"""Exchanges that stand alone (2026-07-28): the handler runs in the exchange's task, and closing the response cancels it.

exchange's task ─▶ handler ─▶ done before anything was said ─▶ JSON
                      │
                      └─ says something, or takes long ─▶ a companion streams, and the handler waits for its reader
"""

from __future__ import annotations

from functools import partial

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
    ProtocolError,
    RemoteProtocolError,
    http_status,
)
from trio_mcp.protocol.jsonrpc import Message, Notification, Request
from trio_mcp.transports.http.companions import DISMISSAL_SECONDS, Companion, Companions
from trio_mcp.transports.http.delivery import Delivery
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.http.gate import accepts
from trio_mcp.transports.http.hold_back import HoldBack
from trio_mcp.transports.http.mirror import check_mirrored, check_param_headers
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal, send_empty, send_error

__all__ = ["ModernFront"]


class ModernFront:
    """Carries one message each."""

    def __init__(
        self,
        service: Service,
        pace: Pace,
        hold_back: HoldBack,
        companions: Companions,
        *,
        json_response: bool = False,
    ) -> None:
        self._service = service
        self._pace = pace
        self._hold_back = hold_back
        self._companions = companions
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

    def _watch(self, exchange: HttpExchange, delivery: Delivery) -> Companion | None:
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
        if self._service.method(request.method, envelope.version) is None:
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {request.method[:128]}")
        if request.method == "subscriptions/listen" and not accepts(exchange).sse:
            raise HttpRefusal(406, "subscriptions/listen is answered by a stream: Accept must allow text/event-stream")
        if request.method == "tools/call":
            check_param_headers(exchange, request, self._service.registry)
        return envelope
