"""HTTP exchanges that belong to no session (2026-07-28): the handler runs in the exchange's task, and a client that leaves cancels it.

exchange's task ─▶ handler ─▶ done before anything was said ─▶ JSON
                      │
                      └─ says something, or takes long ─▶ a side task streams, and the handler waits for its reader
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import trio

from trio_mcp.dispatch.call import Call, CallScope, Client, Service
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.notices import notice_of_modern
from trio_mcp.features.tools import Tool
from trio_mcp.observability.metrics import StreamKind
from trio_mcp.protocol.envelope import Envelope, read_envelope, require_served
from trio_mcp.protocol.errors import (
    INVALID_REQUEST,
    NoBackChannel,
    ProtocolError,
    RemoteProtocolError,
    http_status,
)
from trio_mcp.protocol.jsonrpc import Message, Notification, Request
from trio_mcp.streams.account import SMALL
from trio_mcp.streams.backlog import Kind, Overflow
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import Answer, EventLog
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.mirror import check_mirrored, check_param_headers
from trio_mcp.transports.http.permission import require_extension_permission, require_permission
from trio_mcp.transports.http.responses import HttpRefusal, send_answer, send_empty, send_error
from trio_mcp.transports.http.side_tasks import DISMISSAL_SECONDS, HeldHead, SideTask, SideTasks

__all__ = ["Delivery", "ModernFront"]

_LISTEN = "subscriptions/listen"


class ModernFront:
    """Answers exchanges of one message.

    `json_response`: they are answered in JSON alone, whatever their clients take, but for `subscriptions/listen`.
    """

    def __init__(self, service: Service, pace: Pace, side_tasks: SideTasks, *, json_response: bool = False) -> None:
        self._service = service
        self._pace = pace
        self._side_tasks = side_tasks
        self._json_response = json_response

    async def post(self, exchange: HttpExchange, message: Message) -> None:
        """Run a request. A notification is accepted, and is for extensions: MCP's own could name nothing here, such as a request id.

        Raises RemoteProtocolError for a response, and HttpRefusal.
        """
        match message:
            case Request():
                await self._request(exchange, message)
            case Notification():
                notice_of_modern(self._service, message, exchange.principal, exchange.head.headers, exchange.token)
                await send_empty(exchange.carrier.send, 202, exchange.cors)
            case _:
                raise RemoteProtocolError(INVALID_REQUEST, "2026-07-28 has no responses from clients: send a retry")

    async def _request(self, exchange: HttpExchange, request: Request) -> None:
        tool = self._service.registry.called_tool(request.params) if request.method == "tools/call" else None
        listens = request.method == _LISTEN
        try:
            envelope = self._admit(exchange, request, tool)
            delivery = self._delivery(exchange, "listen" if listens else "post")
            call = self._call(exchange, request, envelope, tool, delivery)
            if exchange.token is not None:
                require_permission(self._service, exchange, [request])
                await require_extension_permission(exchange, call)
        except ProtocolError as fault:
            status = http_status(fault.code, modern=True)
            if status >= 400:
                self._service.refusals.note(status, "message")
            return await send_error(exchange.carrier.send, status, fault, exchange.cors, request.id)
        delivery.begin(streams=exchange.takes_sse and (listens or not self._json_response))
        try:
            await respond(call)
            await delivery.complete()
        finally:
            # Every wait in it is shielded, with a deadline.
            await delivery.close()  # noqa: ASYNC102

    def _delivery(self, exchange: HttpExchange, kind: StreamKind) -> Delivery:
        kept = exchange.carrier.kept
        scope = trio.CancelScope() if kept is None else kept.lend()
        return Delivery(exchange, self._service, self._pace, self._side_tasks, kind, scope)

    def _call(
        self, exchange: HttpExchange, request: Request, envelope: Envelope, tool: Tool | None, delivery: Delivery
    ) -> Call:
        return Call(
            self._service,
            request.id,
            request.method,
            request.params,
            envelope.version,
            exchange.principal,
            Client(envelope.client_info, envelope.capabilities),
            delivery,
            tool=tool,
            log_level=envelope.log_level,
            headers=exchange.head.headers,
            token=exchange.token,
            started=exchange.body_ended,
            scope=delivery.call_scope,
        )

    def _admit(self, exchange: HttpExchange, request: Request, tool: Tool | None) -> Envelope:
        """What `_meta` says of the request.

        Checked in this order (2026-07-28 streamable-http): method, `_meta`, the headers that repeat the body, version, the headers
        that repeat arguments. Raises ProtocolError, or HttpRefusal.
        """
        method = self._service.modern_method(request.method, request.params)
        envelope = read_envelope(request.params)
        check_mirrored(exchange, request, envelope.version, method)
        require_served(envelope.version)
        if request.method == _LISTEN and not exchange.takes_sse:
            raise HttpRefusal(406, "subscriptions/listen is answered by a stream: Accept must allow text/event-stream")
        if tool is not None and tool.param_headers:
            check_param_headers(exchange, request, tool.param_headers)
        return envelope


class Delivery(msgspec.Struct, eq=False):
    """The outbox of one exchange. It is in one of two states:

    held back    Nothing was sent. The reply is kept in `_reply`, and `complete` sends it as JSON.
    streaming    From `open_stream` on, which is called by the first message, or by the clock. Every message, the reply too,
                 goes to the log in `_stream`, and the side task in `_stream` writes the log to the client.
    """

    answers_cancelled = True
    holder = None
    """Each exchange stands for itself."""

    _exchange: HttpExchange
    _service: Service
    _pace: Pace
    _side_tasks: SideTasks
    _kind: StreamKind
    call_scope: CallScope
    """The handler runs in it: it is cancelled when the client closes the response (2026-07-28 streamable-http)."""
    _streams: bool = False
    """Whether the client takes a stream; otherwise it gets the reply and nothing else."""
    _head: HeldHead | None = None
    _held_until: float = 0.0
    """When a stream may begin by time (trio clock)."""
    _watcher: SideTask | None = None
    _reply: Answer | None = None
    _held: int = 0
    """What the account counts of a large reply until it is sent."""
    _stream: tuple[EventLog, SideTask] | None = None

    def begin(self, *, streams: bool) -> None:
        """Watch for a disconnect, and, where the client takes a stream (`streams`), start the clock."""
        self._streams = streams
        if not self._exchange.carrier.tell_when_client_leaves(self._client_left):
            watch = partial(self._exchange.watch_client, self._client_left)
            self._watcher = self._side_tasks.start(watch, self._client_left)
        if streams:
            self._head = self._side_tasks.hold_head_back(self._clock_ran_out, self._exchange.body_ended)

    def hold_back(self, until: float) -> None:
        """Begin no stream by time before that."""
        self._held_until = until

    def _clock_ran_out(self) -> None:
        if trio.current_time() < self._held_until:
            self._head = self._side_tasks.hold_head_back(self._clock_ran_out, trio.current_time())
        else:
            self.open_stream()

    async def complete(self) -> None:
        """Send the reply, or wait until the stream is written; raises OSError when the client is gone."""
        self._stop_clock()
        if self._exchange.left:
            return
        if self._stream is not None:
            return await self._stream[1].finished()
        # A checkpoint, for the handler may have had none. And as every call passes it, the replies of calls that run at the same
        # time are written one after the other, which costs the kernel a third less.
        await trio.lowlevel.checkpoint()
        await self._send_reply()

    async def close(self) -> None:
        """End the side tasks, and the clock where `complete` was not reached. Waits under shields of `DISMISSAL_SECONDS`."""
        self._stop_clock()
        self._let_go()
        if self._watcher is not None:
            await _dismiss(self._watcher)
        if self._stream is not None:
            await _dismiss(self._stream[1])

    def open_stream(self) -> EventLog:
        """From now on messages are sent as they come; the log they go to."""
        if self._stream is None:
            log = EventLog(Budget(account=self._service.account), expected=1, replays=False)
            self._stream = log, self._side_tasks.start(partial(self._write, log), self.call_scope.cancel)
        return self._stream[0]

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """The first message opens the stream."""
        if self._streams:
            self.open_stream().append(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        """Keep the reply for `complete`, or put it into the stream."""
        if self._stream is None:
            self._reply = Answer(body or b"", status)
            if len(self._reply.body) > SMALL:
                # Before other calls that end now look whether there is room.
                self._held = len(self._reply.body)
                self._service.account.charge_unfinished(self._held)
            return
        log = self._stream[0]
        try:
            log.finish(body or b"", status)
        except Overflow:
            log.end()

    async def wait_for_reader(self) -> None:
        """Wait until the client has read everything; raises SlowReader when it reads nothing for `write_timeout`."""
        if self._stream is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream[0].flushed(self._service.options.write_timeout)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """There are no requests to the client on 2026-07-28: a question ends the call (`dispatch/questions`)."""
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Nothing: streams of 2026-07-28 cannot be resumed."""

    def _stop_clock(self) -> None:
        if self._head is not None:
            self._head.release()
            self._head = None

    def _client_left(self) -> None:
        self._exchange.left = True
        self.call_scope.cancel("the client disconnected")
        if self._stream is not None:
            self._stream[1].cancel()

    def _let_go(self) -> None:
        """Count the reply no more: whoever sends it does."""
        if self._held:
            self._service.account.release_unfinished(self._held)
            self._held = 0

    async def _send_reply(self) -> None:
        """Send the reply as JSON; to a client that takes only streams as a stream, but for an error, whose HTTP status would be lost."""
        reply = self._reply
        assert reply is not None, "the dispatcher finishes every call"
        self._let_go()
        if self._exchange.takes_json or reply.status != 200:
            delay = self._pace.stream_delay
            return await send_answer(self._exchange, reply, self._service.account, delay=delay)
        log = EventLog(Budget(account=self._service.account), expected=1, replays=False)
        log.finish(reply.body, reply.status)
        await self._write(log)

    async def _write(self, log: EventLog) -> None:
        self._service.metrics.stream_opened(self._kind)
        try:
            stream = EventStream(self._exchange, log.open_reader(), StreamHead(), self._pace, self._exchange.cors)
            await stream.run()
        finally:
            log.discard()
            self._service.metrics.stream_closed(self._kind)


async def _dismiss(task: SideTask) -> None:
    with trio.move_on_after(DISMISSAL_SECONDS, shield=True):
        await task.dismiss()
