"""Serves one client over stdio, one message a line, both eras at once (2026-07-28 basic/transports/stdio).

stdin ─ lines ─▶ decode ─▶ era.route ─▶ Pipeline ─┬─▶ modern: a task of the server, cancelled by `notifications/cancelled`
          ▲                                       └─▶ legacy: the one session of the process
          └─ stops while too many requests wait
stdout ◀─ Output: one writer, one event log ◀── all messages

Back-pressure: `max_in_flight` requests run. More are read, and wait in the pipeline; replies and cancellations overtake them. Reading
stops when the waiting requests exceed their share of the node's memory, unless a handler waits for a reply of the client: then reading
goes on, and further requests are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from trio_mcp.auth.principal import ANONYMOUS
from trio_mcp.defaults import MAX_BODY
from trio_mcp.dispatch.call import Call, Client, Ending, Service
from trio_mcp.dispatch.discovery import initialize_result
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.observability.logs import event
from trio_mcp.protocol.envelope import Envelope, read_envelope, require_served
from trio_mcp.protocol.era import InSession, Modern, Opening, Sessionless, route
from trio_mcp.protocol.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    InvalidParams,
    ProtocolError,
    RemoteProtocolError,
    SessionClosed,
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
    decode,
    encode_error,
    encode_result,
    is_request_id,
)
from trio_mcp.protocol.versions import V2025_03_26
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.stop_times import STDIO_LAST_ANSWERS_SECONDS
from trio_mcp.streams.account import HARD, TICK_SECONDS
from trio_mcp.transports.stdio.lines import LineReader, LineTooLong, Outline
from trio_mcp.transports.stdio.output import BatchOutbox, ModernOutbox, Output, SessionOutbox
from trio_mcp.transports.stdio.pipeline import Pipeline

__all__ = ["StdioServer"]

logger: logging.Logger = logging.getLogger("trio_mcp.stdio")

_STDIO_SESSION = "stdio"


class StdioServer:
    """Serves one client on a pair of byte streams."""

    def __init__(self, service: Service, hub: Hub, *, max_message: int = MAX_BODY) -> None:
        self._service = service
        self._hub = hub
        self._max_message = max_message
        self._output = Output(service.account, write_timeout=service.options.write_timeout, give_up=self._give_up)
        self._out = self._output.log
        self._pipeline = Pipeline(service.options.max_in_flight, service.account)
        self._ended = trio.Event()
        """Set when a request has ended, so that another may begin."""
        self._stuck = False
        self._session: LiveSession | None = None
        self._calls: dict[RequestId, Call] = {}
        self._nursery: trio.Nursery | None = None

    async def serve(
        self,
        stdin: trio.abc.ReceiveStream,
        stdout: trio.abc.SendStream,
        *,
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve until stdin ends, or the client stops reading. The hub must be running.

        `ending` is called, perhaps more than once, when the end begins: from then on a handler that shields itself delays it.
        """
        try:
            async with trio.open_nursery() as writing:
                writing.start_soon(self._write, stdout, writing.cancel_scope, ending)
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._begin_waiting)
                    await self._read(stdin)
                    await self._drained()
                    ending()
                    await self._answers()
                    self._pipeline.clear()
                    self._end_all()
                    self._nursery.cancel_scope.cancel("stdin ended")
                self._out.end()
        finally:
            self._pipeline.clear()
            self._output.discard()

    async def _read(self, stdin: trio.abc.ReceiveStream) -> None:
        lines = LineReader(stdin, self._max_message)
        while True:
            await self._room()
            try:
                line = await lines.next_line()
            except LineTooLong as fault:
                self._refuse_long(fault.outline)
                continue
            if line is None:
                return
            await self._take(line)

    async def _room(self) -> None:
        """Wait while nothing more should be read. A client that writes without reading is logged once."""
        while self._has_enough:
            if not self._stuck and self._out.unread:
                self._stuck = True
                event(
                    logger, logging.WARNING, "the client sends requests and does not read the answers; waiting for it"
                )
            # A timeout, because there is no event for memory that is no longer short.
            with trio.move_on_after(TICK_SECONDS):
                await self._ended.wait()

    @property
    def _has_enough(self) -> bool:
        """Whether nothing more should be read now.

        While a handler waits for a reply of the client, reading goes on: the reply comes behind the requests sent before it.
        """
        if self._out.waiting_bytes >= HARD * self._service.account.share:
            # The answers of calls never amount to so much: these are errors, for a client that sends and does not read.
            return True
        asks = self._session is not None and self._session.awaits_reply
        return self._pipeline.full and not asks

    def _refuse_long(self, outline: Outline) -> None:
        text = f"A message has at most {self._max_message} bytes"
        answered, asked = outline.reply_id(), outline.request_id()
        if answered is not None and self._session is not None:
            # The handler that sent the request must not wait for a reply that was skipped.
            self._session.receive(Reply(answered, None, {"code": INVALID_REQUEST, "message": text}))
        elif answered is None:
            self._output.send(
                encode_error(asked, ProtocolError(PARSE_ERROR if asked is None else INVALID_REQUEST, text))
            )

    async def _take(self, line: bytes) -> None:
        try:
            message = decode(line)
        except InvalidMessage as fault:
            return self._output.send(encode_error(fault.id, fault))
        try:
            await self._route(message, len(line))
        except ProtocolError as fault:
            self._refuse(message, fault)
        except SessionClosed as fault:
            self._refuse(message, ProtocolError(INTERNAL_ERROR, str(fault)))
        await trio.lowlevel.checkpoint()

    def _refuse(self, message: Message | Batch, fault: ProtocolError) -> None:
        if isinstance(message, Request | list):
            self._output.send(encode_error(message.id if isinstance(message, Request) else None, fault))

    async def _route(self, message: Message | Batch, size: int) -> None:
        if isinstance(message, Notification) and message.method == "notifications/cancelled":
            self._cancel(message)
        session_id = _STDIO_SESSION if self._session is not None else None
        match route(message, version_header=None, session_id=session_id):
            case Modern(message=Request() as request):
                self._add_modern(request, size)
            case Modern():
                pass
            case Opening(request=request):
                await self._open(request)
            case InSession(message=content):
                self._in_session(content, size)
            case Sessionless(message=content):
                self._before_session(content)

    def _add_modern(self, request: Request, size: int) -> None:
        envelope = read_envelope(request.params)
        require_served(envelope.version)
        self._add(request, size, lambda: self._start_modern(request, envelope))

    def _add(self, request: Request, size: int, start: Callable[[], None], outbox: BatchOutbox | None = None) -> None:
        """Start a request of `size` bytes when it is its turn; `outbox` gets an answer if it cannot be started, or is cancelled before."""

        def refuse(fault: ProtocolError) -> None:
            answer = encode_error(request.id, fault)
            if outbox is not None:
                outbox.add(answer)
            else:
                self._output.send(answer)

        def begin() -> None:
            try:
                start()
            except (ProtocolError, SessionClosed) as fault:
                self._request_ended()
                refuse(fault if isinstance(fault, ProtocolError) else ProtocolError(INTERNAL_ERROR, str(fault)))

        if self._pipeline.overfull:
            refuse(ProtocolError(INVALID_REQUEST, "Too many requests wait; answer what was asked first"))
        else:
            self._pipeline.add(request.id, size, begin, lambda: None if outbox is None else outbox.add(None))

    def _request_ended(self) -> None:
        self._pipeline.ended()
        self._ended.set()

    async def _begin_waiting(self) -> None:
        """Begin waiting requests as others end. A task of its own: at the place where a request ends, it still counts for its session."""
        while True:
            await self._ended.wait()
            self._ended = trio.Event()
            self._pipeline.begin_waiting()

    def _start_modern(self, request: Request, envelope: Envelope) -> None:
        client = Client(envelope.client_info, envelope.capabilities)
        outbox = ModernOutbox(self._output, self._request_ended)
        call = Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            ANONYMOUS,
            client,
            outbox,
            log_level=envelope.log_level,
        )
        if request.id in self._calls:
            raise RemoteProtocolError(INVALID_REQUEST, "A request with this id is in flight already")
        self._calls[request.id] = call
        assert self._nursery is not None
        self._nursery.start_soon(self._respond, call)

    async def _respond(self, call: Call) -> None:
        try:
            await respond(call)
        finally:
            del self._calls[call.request_id]

    async def _open(self, request: Request) -> None:
        if self._session is not None:
            raise RemoteProtocolError(INVALID_REQUEST, "This connection is already initialized")
        began = trio.current_time()
        offer = read_offer(request.params)
        session = await self._hub.open(offer, ANONYMOUS, standalone=self._out)
        seconds = trio.current_time() - began
        self._service.metrics.operation(
            "initialize", tool=None, version=session.protocol_version, error=None, seconds=seconds
        )
        # The session must not idle out while the client is there.
        session.add_reader()
        self._session = session
        self._output.send(encode_result(request.id, initialize_result(self._service, session.protocol_version)))

    def _in_session(self, content: Message | Batch, size: int) -> None:
        session = self._session
        assert session is not None
        match content:
            case Request():
                self._add(
                    content,
                    size,
                    lambda: session.start(content, SessionOutbox(self._output, self._request_ended, session)),
                )
            case list():
                self._batch(session, content, size)
            case _:
                session.receive(content)

    def _batch(self, session: LiveSession, batch: Batch, size: int) -> None:
        if session.protocol_version != V2025_03_26:
            raise RemoteProtocolError(INVALID_REQUEST, "Batches were removed in 2025-06-18; send one message a line")
        if any(isinstance(element, Request) and element.method == "initialize" for element in batch):
            raise RemoteProtocolError(INVALID_REQUEST, "initialize must not be part of a batch")
        wanted = sum(isinstance(element, Request | InvalidMessage) for element in batch)
        outbox = BatchOutbox(self._output, self._request_ended, session, wanted)
        for element in batch:
            match element:
                case Request():
                    self._add(element, size // len(batch), partial(session.start, element, outbox), outbox)
                case InvalidMessage():
                    outbox.add(encode_error(element.id, element))
                case _:
                    session.receive(element)

    def _before_session(self, content: Message | Batch) -> None:
        if isinstance(content, Request) and content.method == "ping":
            # "The receiver MUST respond promptly", also before the handshake.
            self._output.send(encode_result(content.id, {}))
        elif isinstance(content, Request):
            # Without a session it can only be a 2026-07-28 request, and -32602 is for what its `_meta` lacks.
            raise InvalidParams(
                "Send initialize first, or params._meta with a protocol version in every request (2026-07-28)"
            )
        elif isinstance(content, list):
            raise RemoteProtocolError(INVALID_REQUEST, "Batches exist in sessions of 2025-03-26 only")

    def _cancel(self, notification: Notification) -> None:
        named: Any = notification.params.get("requestId")
        if not is_request_id(named):
            return
        call = self._calls.get(named)
        if call is not None:
            call.cancel(Ending.CANCELLED)
        elif self._session is None or named not in self._session.calls:
            self._pipeline.cancel(named)

    async def _drained(self) -> None:
        """Wait while requests still begin, or messages are still read, each within STDIO_LAST_ANSWERS_SECONDS."""
        while self._pipeline or self._out.unread:
            before = len(self._pipeline), self._out.moves
            with trio.move_on_after(STDIO_LAST_ANSWERS_SECONDS):
                while before == (len(self._pipeline), self._out.moves):
                    await self._out.changed()
                continue
            return

    def _give_up(self) -> None:
        event(logger, logging.WARNING, "the client reads nothing; giving it up")
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel("the client reads nothing")
        self._end_all()

    async def _answers(self) -> None:
        """Wait for the answers of requests in flight, STDIO_LAST_ANSWERS_SECONDS at most."""
        with trio.move_on_after(STDIO_LAST_ANSWERS_SECONDS):
            while self._calls_run() or (self._session is not None and len(self._session.calls)):
                await self._out.changed()

    def _calls_run(self) -> bool:
        return any(call not in self._service.listen_calls for call in self._calls.values())

    def _end_all(self) -> None:
        for ended in list(self._service.listen_calls.values()):
            ended.set()
        if self._session is not None:
            self._session.close(CloseReason.SHUTDOWN)

    async def _write(self, stdout: trio.abc.SendStream, scope: trio.CancelScope, ending: Callable[[], None]) -> None:
        try:
            await self._output.write(stdout)
        finally:
            # Without a writer no request can be answered.
            ending()
            self._end_all()
            scope.cancel("nothing more can be said")
