"""The messages of one client on one channel, both eras at once: what stdio and WebSocket have in common.

bytes ─▶ decode ─▶ era.route ─▶ Pipeline ─┬─▶ modern: a task of the channel, cancelled by `notifications/cancelled`
                                          └─▶ legacy: the one session of the channel
bytes ◀─ Output: one writer, one event log ◀── all messages

The transport frames: it reads messages and hands each to `Channel.take`, and writes those of `Output`. Its `Pipeline` says how many
requests run, and how many wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.dispatch.call import Call, Client, Ending, Service
from trio_mcp.dispatch.discovery import initialize_result
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.notices import notice_of_modern, reply_to_nothing
from trio_mcp.protocol.envelope import Envelope, read_envelope, require_served
from trio_mcp.protocol.era import InSession, Modern, Opening, Sessionless, route
from trio_mcp.protocol.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    InvalidParams,
    ProtocolError,
    RemoteProtocolError,
    SessionClosed,
    SessionError,
)
from trio_mcp.protocol.handshake import Offer, read_offer
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
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.stop_times import CUT_ANSWERS_SECONDS
from trio_mcp.transports.channel.output import BatchOutbox, ModernOutbox, Output, SessionOutbox
from trio_mcp.transports.channel.pipeline import Pipeline

__all__ = ["Caller", "Channel"]

_HERE = "here"
"""In place of a session id, which no message on a channel names."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a channel, as long as it is open."""

    principal: Principal = ANONYMOUS
    headers: Mapping[bytes, bytes] | None = None
    """Those of the handshake, by lower-case name; None on stdio."""
    token: AccessToken | None = None
    """The token that came with the handshake; None without authorization by tokens, and on stdio."""
    permit: Callable[[Sequence[Request]], object] = lambda requests: None
    """Called with requests before they are counted or begin, those of a batch together; raises ProtocolError for what the token may not do."""


class Channel:
    """One client, in both eras. The transport sets `nursery` before it hands over the first message."""

    def __init__(
        self,
        service: Service,
        output: Output,
        pipeline: Pipeline,
        open_session: Callable[[Offer], Awaitable[LiveSession]],
        caller: Caller,
    ) -> None:
        """`open_session` makes the session that `initialize` asks for."""
        self._service = service
        self._output = output
        self._pipeline = pipeline
        self._open_session = open_session
        self._caller = caller
        self._calls: dict[RequestId, Call] = {}
        self._over = False
        self.session: LiveSession | None = None
        """The one session, once `initialize` has opened it."""
        self.nursery: trio.Nursery | None = None
        """Runs the modern requests."""

    def take(self, data: bytes) -> Request | None:
        """Take one message, or a batch; what is wrong with it is answered. Never blocks.

        Returns an `initialize`, which is to be handed to `open`.
        """
        try:
            message = decode(data)
        except InvalidMessage as fault:
            self._output.send(encode_error(fault.id, fault))
            return None
        with self._answering_faults(message):
            return self._route(message, len(data))

    async def open(self, request: Request) -> None:
        """Open the session that `initialize` asks for, and answer it. No message may be taken meanwhile."""
        began = trio.current_time()
        with self._answering_faults(request):
            session = await self._open_session(read_offer(request.params))
            seconds = trio.current_time() - began
            self._service.metrics.operation(
                "initialize", tool=None, version=session.protocol_version, error=None, seconds=seconds
            )
            self.session = session
            self._output.send(encode_result(request.id, initialize_result(self._service, session.protocol_version)))

    @property
    def calls_run(self) -> bool:
        """Whether a request has no answer yet; a listen stream does not count, which has none before its end."""
        if self.session is not None and len(self.session.calls):
            return True
        return any(call not in self._service.listen_calls for call in self._calls.values())

    @property
    def busy(self) -> bool:
        """Whether a request has no answer yet, or the client listens."""
        return bool(self._calls) or (self.session is not None and len(self.session.calls) > 0)

    def end_calls(self, ending: Ending) -> None:
        """Cancel the modern requests because of `ending`; listen streams end with their results. A session ends its own."""
        for call in list(self._calls.values()):
            if call in self._service.listen_calls:
                self._service.listen_calls[call].set()
            else:
                call.cancel(ending)

    def end_with_session(self) -> None:
        """The session has ended, and this client's channel with it: the modern requests are cancelled, and have their answers first."""
        self._over = True
        if self._calls and self.nursery is not None:
            self.nursery.start_soon(self._end_after_answers)
        else:
            self._output.log.end()

    async def _end_after_answers(self) -> None:
        log = self._output.log
        self.end_calls(Ending.SESSION_CLOSED)
        with trio.move_on_after(CUT_ANSWERS_SECONDS):
            while self._calls:
                await log.changed()
        log.end()

    @contextmanager
    def _answering_faults(self, message: Message | Batch) -> Iterator[None]:
        """Answer `message` with the error that the block raises."""
        try:
            yield
        except ProtocolError as fault:
            self._refuse(message, fault)
        except SessionError as fault:
            self._refuse(message, ProtocolError(INTERNAL_ERROR, str(fault)))

    def _refuse(self, message: Message | Batch, fault: ProtocolError) -> None:
        if isinstance(message, Request | list):
            self._output.send(encode_error(message.id if isinstance(message, Request) else None, fault))

    def _route(self, message: Message | Batch, size: int) -> Request | None:
        if isinstance(message, Notification) and message.method == "notifications/cancelled":
            self._cancel(message)
        session_id = _HERE if self.session is not None else None
        match route(message, version_header=None, session_id=session_id):
            case Modern(message=Request() as request):
                self._add_modern(request, size)
            case Modern(message=Notification() as notice):
                notice_of_modern(
                    self._service, notice, self._caller.principal, self._caller.headers, self._caller.token
                )
            case Modern():
                reply_to_nothing()
            case Opening(request=request):
                if self.session is not None:
                    raise RemoteProtocolError(INVALID_REQUEST, "This connection is already initialized")
                return request
            case InSession(message=content):
                self._in_session(content, size)
            case Sessionless(message=content):
                self._before_session(content)
        return None

    def _add_modern(self, request: Request, size: int) -> None:
        self._service.modern_method(request.method, request.params)
        envelope = read_envelope(request.params)
        require_served(envelope.version)
        self._caller.permit([request])
        ended = partial(self._pipeline.ended, size)
        self._add(request, size, lambda: self._start_modern(request, envelope, ModernOutbox(self._output, ended)))

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
                self._pipeline.ended(size)
                refuse(fault if isinstance(fault, ProtocolError) else ProtocolError(INTERNAL_ERROR, str(fault)))

        try:
            self._pipeline.add(request.id, size, begin, lambda: None if outbox is None else outbox.add(None))
        except RemoteProtocolError as fault:
            refuse(fault)

    def _start_modern(self, request: Request, envelope: Envelope, outbox: ModernOutbox) -> None:
        caller = self._caller
        call = Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            caller.principal,
            Client(envelope.client_info, envelope.capabilities),
            outbox,
            log_level=envelope.log_level,
            headers=caller.headers,
            token=caller.token,
        )
        if self._over:
            raise RemoteProtocolError(
                INVALID_REQUEST, "The session on this connection has ended, and the connection with it"
            )
        if request.id in self._calls:
            raise RemoteProtocolError(INVALID_REQUEST, "A request with this id is in flight already")
        self._calls[request.id] = call
        assert self.nursery is not None
        self.nursery.start_soon(self._respond, call)

    async def _respond(self, call: Call) -> None:
        try:
            await respond(call)
        finally:
            del self._calls[call.request_id]
            if self._over:
                self._output.log.wake()

    def _in_session(self, content: Message | Batch, size: int) -> None:
        session = self.session
        assert session is not None
        match content:
            case Request():
                self._caller.permit([content])
                outbox = SessionOutbox(self._output, partial(self._pipeline.ended, size), session)
                self._add(content, size, partial(self._start_in_session, session, content, outbox))
            case list():
                self._batch(session, content, size)
            case _:
                session.receive(content)

    def _batch(self, session: LiveSession, batch: Batch, size: int) -> None:
        if session.protocol_version != V2025_03_26:
            raise RemoteProtocolError(INVALID_REQUEST, "Batches were removed in 2025-06-18; send one message at a time")
        if any(isinstance(element, Request) and element.method == "initialize" for element in batch):
            raise RemoteProtocolError(INVALID_REQUEST, "initialize must not be part of a batch")
        wanted = sum(isinstance(element, Request | InvalidMessage) for element in batch)
        self._caller.permit([element for element in batch if isinstance(element, Request)])
        size //= len(batch)
        outbox = BatchOutbox(self._output, partial(self._pipeline.ended, size), session, wanted)
        for element in batch:
            match element:
                case Request():
                    self._add(element, size, partial(self._start_in_session, session, element, outbox), outbox)
                case InvalidMessage():
                    outbox.add(encode_error(element.id, element))
                case _:
                    session.receive(element)

    def _start_in_session(self, session: LiveSession, request: Request, outbox: SessionOutbox) -> None:
        caller = self._caller
        session.start(request, outbox, caller.principal, caller.headers, caller.token)

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
        elif isinstance(content, Reply):
            reply_to_nothing()

    def _cancel(self, notification: Notification) -> None:
        named: Any = notification.params.get("requestId")
        if not is_request_id(named):
            return
        call = self._calls.get(named)
        if call is not None:
            call.cancel(Ending.CANCELLED)
        elif self.session is None or named not in self.session.calls:
            self._pipeline.cancel(named)
