"""`LiveSession` runs a legacy session: a nursery that outlives the HTTP exchanges of its requests.

exchange ──accept──▶ request task ──▶ EventLog ◀── the same exchange, or a later one, reads
                      │ in the session's nursery, keyed by request id
close(reason) ────────┴──▶ calls answered with an error · streams ended cleanly · nursery cancelled
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVarTuple

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.dispatch import speech
from trio_mcp.dispatch.call import Call, Client, Ending, Outbox, Service
from trio_mcp.dispatch.notices import notice_in_session, reply_to_nothing
from trio_mcp.dispatch.session import Session
from trio_mcp.dispatch.user_code import call_user
from trio_mcp.protocol.envelope import at_least
from trio_mcp.protocol.errors import SessionClosed, SessionError
from trio_mcp.protocol.jsonrpc import (
    InvalidMessage,
    Notification,
    Reply,
    Request,
    encode_error,
    encode_notification,
)
from trio_mcp.sessions.calls import Calls, CallTasks
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import Snapshot
from trio_mcp.sessions.outbox import PendingQuestions, StreamOutbox
from trio_mcp.sessions.streams import SessionStreams
from trio_mcp.sessions.subscriptions import Subscriptions
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import Change
from trio_mcp.streams.event_log import EventLog
from trio_mcp.streams.loop import Loop

__all__ = ["LiveSession"]

Ts = TypeVarTuple("Ts")
_Headers: TypeAlias = Mapping[bytes, bytes] | None
_Token: TypeAlias = AccessToken | None


class LiveSession:
    """A session as the hub, the transports and the cluster handle it; users meet its `user_session`."""

    def __init__(
        self,
        id: str,
        service: Service,
        principal: Principal,
        client: Client,
        version: str,
        standalone: EventLog | None = None,
        *,
        over: Callable[[], None] | None = None,
        epoch: int = 0,
        subscriptions: Sequence[str] = (),
    ) -> None:
        """`standalone` is the session's own stream where it exists already; then `over` is called when the session has ended.

        `epoch` counts how often it was restored.
        """
        self.id = id
        self.principal: Principal = principal.identity
        """The client that opened it, without claims: each request has claims of its own."""
        self.client = client
        self.protocol_version = version
        self.initialized: bool = False
        """The client has sent `notifications/initialized`."""
        self.used: bool = False
        """The client has done more than open it."""
        self.bound: bool = standalone is not None
        """It lives on one connection, such as a WebSocket: no request names it, and no other node takes it up."""
        self.admitted = False
        """It is or was open: the hub has counted it."""
        self.opened_at: float = trio.current_time()
        """On the trio clock."""
        self.release_pending: trio.Event | None = None
        """Not None while the node offers the session to others: nothing new begins. Set when a claim is allowed, or the offer failed."""
        self.closed_because: CloseReason | None = None
        self.why_closed: str | None = None
        """The words that user code gave when it closed the session."""
        self.on_change: Callable[[], None] | None = None
        """Called when the snapshot has changed, for the directory to record it."""
        self.streams: SessionStreams = SessionStreams(
            service.options.streams,
            standalone,
            epoch,
            account=service.account,
            give_up=partial(self.close, CloseReason.OVERFLOW),
        )
        self.calls: Calls = Calls(service.options.max_in_flight)
        self.subscriptions: Subscriptions = Subscriptions(
            subscriptions, missed=epoch > 0, offers=service.offers, send=self._send
        )
        self.user_session: Session = Session(self)
        self._service = service
        self._over = over
        self._nursery: trio.Nursery | None = None
        self._call_tasks: CallTasks | None = None
        self._idle_scope: trio.CancelScope | None = None
        """Its deadline is when to look next whether the session is idle, or a stream may be forgotten."""
        self._questions = PendingQuestions(epoch)
        self._log_level = "info"
        self._created = int(time.time())
        self._readers = 0
        self._last_used = self.opened_at

    @classmethod
    def restoring(cls, snapshot: Snapshot, service: Service, principal: Principal) -> LiveSession:
        """A session as another node left it."""
        session = cls(
            snapshot.id,
            service,
            principal,
            snapshot.client,
            snapshot.version,
            epoch=snapshot.epoch,
            subscriptions=snapshot.subscriptions,
        )
        session.initialized = snapshot.initialized
        session._log_level = snapshot.log_level
        session._created = snapshot.created
        return session

    def __repr__(self) -> str:
        state = f"{len(self.calls)} in flight" if self.closed_because is None else f"closed: {self.closed_because}"
        return f"<Session {self.short_id} {self.protocol_version} {state}>"

    # The port `Conversation`, for its requests and its `Session`.

    @property
    def short_id(self) -> str:
        """What logs show: the id itself is a credential."""
        return self.id.rpartition(".")[2][:8]

    @property
    def restored(self) -> bool:
        """Whether it began on another node: what that one kept in memory is not here."""
        return self.streams.epoch > 0

    @property
    def log_level(self) -> str:
        """The least severe level of log messages that the client wants."""
        return self._log_level

    @log_level.setter
    def log_level(self, level: str) -> None:
        self._log_level = level
        self._changed()

    @property
    def client_info(self) -> dict[str, Any]:
        """The client's Implementation, as it said at `initialize`; not verified."""
        return self.client.info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """The client's ClientCapabilities, as it said at `initialize`."""
        return self.client.capabilities

    @property
    def loop(self) -> Loop:
        """The event loop it runs in."""
        return self._service.loop

    def subscribe(self, uri: str) -> None:
        """The client gets notifications of updates of `uri`; raises RemoteProtocolError beyond the bounds."""
        self.subscriptions.add(uri)
        self._changed()

    def unsubscribe(self, uri: str) -> None:
        """The client gets them no more; a URI it never subscribed to is ignored."""
        self.subscriptions.remove(uri)
        self._changed()

    def notify(self, change: Change) -> None:
        """Send the client a notification of a change on the server, if it concerns it."""
        self.subscriptions.notify(change)

    def send_log(self, level: str, data: Any, logger: str | None) -> None:
        """Send a log message on the session's own stream, if the client wants its level."""
        if at_least(level, self._log_level):
            params = speech.message(self._service.warned_handlers, "session.log", level, data, logger)
            if params is not None:
                self._send(encode_notification("notifications/message", params), Kind.LOG, None)

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run `fn(*args)` in the session's nursery, from any thread; raises SessionClosed."""
        self._require_open()
        # A closure is equal to no other, so `soon` does not take two tasks that a thread starts for one.
        self.loop.soon(lambda: self._start_task(partial(fn, *args), fn))

    def close_for_user(self, reason: str) -> None:
        """End it for user code: reason CLOSED, with the user's words in the log, unless they are `deleted` or `expired`."""
        if reason in (CloseReason.DELETED, CloseReason.EXPIRED):
            self.close(CloseReason(reason))
        else:
            self.loop.soon(self._close, CloseReason.CLOSED, None if reason == CloseReason.CLOSED else reason)

    # What transports do with it.

    def accept(
        self,
        requests: list[Request],
        *,
        who: Principal,
        streams: bool,
        batched: bool = False,
        faults: Sequence[InvalidMessage] = (),
        headers: _Headers = None,
        token: _Token = None,
    ) -> EventLog:
        """Start the requests of one POST in the session's nursery; the log their messages go to.

        `who` and `token` are of that POST, not of `initialize`: neither is kept. `streams`: the client takes an event stream.
        `faults` are the elements of a batch that are no messages, answered at once. Raises TooManyRequests, SessionClosed, and
        RemoteProtocolError for an id that is in flight already.
        """
        self._require_open()
        self.calls.check_room(requests)
        log = self.streams.new(len(requests) + len(faults), batched=batched)
        for fault in faults:
            log.finish(encode_error(fault.id, fault), 200)
        for request in requests:
            self._start(request, StreamOutbox(self, log, streams=streams), who, headers, token)
        return log

    def start(self, request: Request, outbox: Outbox, who: Principal, headers: _Headers, token: _Token) -> None:
        """Start one request whose messages go to `outbox`; `who` and exceptions as for `accept`."""
        self._require_open()
        self.calls.check_room([request])
        self._start(request, outbox, who, headers, token)

    def receive(self, message: Notification | Reply) -> None:
        """Take a message that needs no answer; an unknown notification is ignored, as in JSON-RPC 2.0."""
        self.touch()
        self.used = self.used or isinstance(message, Reply)
        if isinstance(message, Reply):
            if not self._questions.resolve(message):
                reply_to_nothing(self.short_id)
        elif message.method == "notifications/cancelled":
            self.calls.cancel(message.params.get("requestId"))
        elif message.method == "notifications/initialized":
            self.initialized = True
            self._changed()
        elif self._service.take_notice is not None:
            notice_in_session(self._service, message, self, self.protocol_version, self.principal, self.client)

    async def ask(self, emit: Callable[[bytes, Kind], None], method: str, params: dict[str, Any]) -> Any:
        """Ask the client and wait for its result, for `Options.request_timeout`; raises ClientCallError."""
        return await self._questions.ask(emit, method, params, patience=self._service.options.request_timeout)

    @property
    def awaits_reply(self) -> bool:
        """Whether a handler waits for the client's reply to a request of ours."""
        return bool(self._questions)

    def add_reader(self) -> None:
        """A client reads a stream: until `remove_reader` the session is not idle."""
        self.used = True
        self._readers += 1

    def remove_reader(self) -> None:
        """One reader less."""
        self._readers -= 1
        self.touch()
        self._look_no_later_than(self.streams.next_look)

    def touch(self) -> None:
        """The session is used now: its idle timeout begins anew."""
        self._last_used = trio.current_time()

    # What the hub and the cluster do with it.

    async def run(self, begin: Callable[[], Awaitable[None]], idle_timeout: float, began: trio.Event) -> None:
        """Live until closed or idle for `idle_timeout` seconds; `begin` is awaited first, and `began` set when it has returned.

        What the session's tasks raise comes out, in a group, after they all ended.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._call_tasks = CallTasks(self.calls, self._nursery, self._service.variables, self._call_ended)
                await begin()
                began.set()
                await self._until_idle(idle_timeout)
                self.close(CloseReason.EXPIRED)
        finally:
            if self.closed_because is None:
                self.closed_because = CloseReason.CRASHED
            self.streams.close()
            if self._over is not None:
                self._over()

    def snapshot(self) -> Snapshot:
        """What a directory records of it."""
        return Snapshot(
            id=self.id,
            epoch=self.streams.epoch,
            principal_digest=self.principal.recorded_as,
            version=self.protocol_version,
            client=self.client,
            initialized=self.initialized,
            log_level=self._log_level,
            created=self._created,
            subscriptions=tuple(self.subscriptions),
            bound=self.bound,
        )

    def hand_off(self) -> None:
        """Close it because another node may claim it: open streams end with a `retry:` first."""
        for log in self.streams.all():
            # A stream that has ended is left to its reader: no other node has its answer.
            if not log.ended:
                log.close_reader()
        self.close(CloseReason.RELEASED)

    def close(self, reason: CloseReason) -> None:
        """End the session, once: cancel its nursery. From any thread, never blocks."""
        self.loop.soon(self._close, reason)

    def _close(self, reason: CloseReason, why: str | None = None) -> None:
        if self.closed_because is not None:
            return
        self.closed_because, self.why_closed = reason, why
        self.calls.cancel_all(Ending.SHUTDOWN if reason is CloseReason.SHUTDOWN else Ending.SESSION_CLOSED)
        self.calls.resume()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(f"session closed: {reason}")

    def _require_open(self) -> None:
        if self.closed_because is not None:
            raise SessionClosed(self.closed_because)
        if self._nursery is None:
            raise SessionError("The session is not open yet")

    def _changed(self) -> None:
        self.loop.soon(self._record_change)

    def _record_change(self) -> None:
        # A releasing session must not write its record: the write would clear `released`.
        if self.on_change is not None and self.release_pending is None and self.closed_because is None:
            self.on_change()

    def _start(self, request: Request, outbox: Outbox, who: Principal, headers: _Headers, token: _Token) -> None:
        assert self._call_tasks is not None
        self.used = True
        now = trio.current_time()
        task = self._call_tasks.next_task(now)
        what = request.id, request.method, request.params
        call = Call(
            self._service, *what, self.protocol_version, who, self.client, outbox, started=now, scope=task.scope
        )
        call.session, call.headers, call.token = self, headers, token
        task.start(call)

    def _call_ended(self, at: float, look_within: float) -> None:
        self._last_used = at
        self._look_no_later_than(min(self.streams.next_look, self._last_used + look_within))

    def _start_task(self, task: Callable[[], Awaitable[object]], fn: Callable[..., object]) -> None:
        if self._nursery is not None and self.closed_because is None:
            run = partial(call_user, task, is_async=True, limiter=None)
            self._service.variables.copy().run(partial(self._nursery.start_soon, run, name=fn))

    def _send(self, data: bytes, kind: Kind, key: Any) -> None:
        # Notifications are never vital, so they never overflow: what there is no room for is missed.
        self.streams.standalone.append(data, kind, key)

    def _look_no_later_than(self, deadline: float) -> None:
        if self._idle_scope is not None and deadline < self._idle_scope.deadline:
            self._idle_scope.deadline = deadline

    async def _until_idle(self, idle_timeout: float) -> None:
        while True:
            now, busy = trio.current_time(), self.calls or self._readers
            idle_at = now + idle_timeout if busy else self._last_used + idle_timeout
            if idle_at <= now:
                return
            assert self._call_tasks is not None
            next_look = min(self.streams.prune(), self._call_tasks.end_unused())
            with trio.CancelScope(deadline=min(idle_at, next_look)) as self._idle_scope:
                await trio.sleep_forever()
