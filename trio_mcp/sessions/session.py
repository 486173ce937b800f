"""One legacy conversation: a nursery that outlives the HTTP exchanges that talk to it.

exchange ──accept──▶ request task ──▶ EventLog ◀── the same exchange, or a later one, reads
                      │ in the session's nursery, keyed by request id
close(reason) ────────┴──▶ calls answered with an error · streams ended cleanly · nursery cancelled
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVarTuple

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch import speech
from trio_mcp.dispatch.call import Call, Client, Ending, Outbox
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.listening import MAX_SUBSCRIPTIONS, change_message
from trio_mcp.dispatch.service import Service
from trio_mcp.dispatch.user_code import user_code
from trio_mcp.protocol.errors import INVALID_REQUEST, LostCall, RemoteProtocolError, SessionClosed
from trio_mcp.protocol.jsonrpc import (
    InvalidMessage,
    Notification,
    Reply,
    Request,
    RequestId,
    encode,
    encode_error,
    encode_notification,
    is_request_id,
)
from trio_mcp.protocol.severity import LEVELS, at_least
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.outbox import SessionOutbox
from trio_mcp.sessions.questions import PendingQuestions
from trio_mcp.sessions.snapshot import Snapshot
from trio_mcp.sessions.streams import SessionStreams
from trio_mcp.streams.bus import LIST_KINDS, Change, ListChanged, Missed, ResourceUpdated
from trio_mcp.streams.event_log import EventLog, Kind
from trio_mcp.streams.loop import Loop, in_loop

__all__ = ["MAX_SUBSCRIBED_BYTES", "Session", "TooManyRequests"]

Ts = TypeVarTuple("Ts")

TURN_SECONDS = 10.0
"""Longer than anybody holds requests back on purpose."""

MAX_SUBSCRIBED_BYTES = 64 * 1024
"""As JSON: a directory records them, whenever one changes and whenever all records are checked."""


class TooManyRequests(RemoteProtocolError):
    """429: the session has as many requests in flight as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(INVALID_REQUEST, f"More than {limit} requests of this session are in flight")


class Session:
    """A legacy session. Handlers and `@mcp.on_session` functions meet it as `ctx.session` and `session`."""

    spoken_name = "session"

    def __init__(
        self,
        id: str,
        service: Service,
        principal: Principal,
        client: Client,
        version: str,
        standalone: EventLog | None = None,
        *,
        epoch: int = 0,
    ) -> None:
        self.id = id
        self.principal = principal.identity
        """Whose it is, without claims: those are of one request, and each brings its own."""
        self.client = client
        self.protocol_version = version
        self.initialized = False
        self.used = False
        """Its client has done more than to open it."""
        self.admitted = False
        """It is open, or was: its hub counts it."""
        self.opened_at = trio.current_time()
        """Trio clock."""
        self.leaving: trio.Event | None = None
        """Set when another node may take it up; while there is one, nothing new begins here."""
        self.closed_because: CloseReason | None = None
        self.on_change: Callable[[], None] | None = None
        """Called when what a restore would start from has changed."""
        self.streams = SessionStreams(
            service.options.streams,
            standalone,
            epoch,
            account=service.account,
            give_up=partial(self.close, CloseReason.OVERFLOW),
        )
        self._service = service
        self._nursery: trio.Nursery | None = None
        self._nap: trio.CancelScope | None = None
        self._calls: dict[RequestId, Call] = {}
        self._turn: trio.Event | None = None
        """Set when calls may begin again, here or elsewhere; while there is one, they wait for it."""
        self._waiting: dict[RequestId | None, trio.CancelScope] = {}
        self._questions = PendingQuestions(epoch)
        self._log_level = "info"
        self._missed = epoch > 0
        self._subscriptions: set[str] = set()
        self._created = int(time.time())
        self._holds = 0
        self._last_call_ended = trio.Event()
        self._last_used = trio.current_time()

    @classmethod
    def restoring(cls, snapshot: Snapshot, service: Service, principal: Principal) -> Session:
        """A session as another node left it."""
        session = cls(snapshot.id, service, principal, snapshot.client, snapshot.version, epoch=snapshot.epoch)
        session.initialized = snapshot.initialized
        session._log_level = snapshot.log_level
        session._created = snapshot.created
        session._subscriptions.update(snapshot.subscriptions)
        return session

    def __repr__(self) -> str:
        return f"<Session {self.short_id} {self.protocol_version} {len(self._calls)} in flight>"

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
        """The least severe level the client wants to hear of."""
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
    def loop(self) -> Loop:
        """The event loop it lives in."""
        return self._service.loop

    @property
    def face(self) -> Session:
        """What handlers know as `ctx.session`."""
        return self

    # What user code does with a session.

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run `fn(*args)` in the session's nursery: it is cancelled with the session, and its crash closes the session.

        May be called from any thread. Raises SessionClosed when the session has ended. The task starts with the context
        variables of the lifespan: it belongs to the session, not to the request that started it.
        """
        if self._nursery is None or self.closed_because is not None:
            raise SessionClosed(self.closed_because or "not open yet")
        # A closure is equal to no other: of two tasks that a thread starts neither is taken for the other.
        self.loop.soon(lambda: self._start_task(partial(fn, *args), fn))

    @in_loop
    async def notify_resource_updated(self, uri: str) -> None:
        """Tell this client that a resource changed, if it subscribed to it."""
        self.heard(ResourceUpdated(uri))
        await trio.lowlevel.checkpoint()

    @in_loop
    async def notify_tools_changed(self) -> None:
        """Tell this client that `tools/list` changed."""
        self.heard(ListChanged("tools"))
        await trio.lowlevel.checkpoint()

    @in_loop
    async def notify_resources_changed(self) -> None:
        """Tell this client that `resources/list` changed."""
        self.heard(ListChanged("resources"))
        await trio.lowlevel.checkpoint()

    @in_loop
    async def notify_prompts_changed(self) -> None:
        """Tell this client that `prompts/list` changed."""
        self.heard(ListChanged("prompts"))
        await trio.lowlevel.checkpoint()

    @in_loop
    async def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Send a log message on the session's own stream, if the client wants that level; raises ValueError for no level.

        `data` may be anything, as with `Context.log`.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
        if at_least(level, self.log_level):
            params = speech.message(self._service.unsaid, "session.log", level, data, logger)
            if params is not None:
                self._say(encode_notification("notifications/message", params), Kind.LOG)
        await trio.lowlevel.checkpoint()

    # What transports do with it.

    def accept(
        self,
        requests: list[Request],
        *,
        who: Principal,
        streams: bool,
        batched: bool = False,
        faults: Sequence[InvalidMessage] = (),
        headers: Any = None,
    ) -> EventLog:
        """Start the requests of one POST in the session's nursery; the log their messages go to.

        `who` is the principal of that POST: its claims may be others than those of `initialize`. `faults` are the elements of a batch that are no messages, answered at once. Raises TooManyRequests, SessionClosed, and RemoteProtocolError for an id that is in flight already.
        """
        self._check_room(requests)
        log = self.streams.new(len(requests) + len(faults), batched=batched)
        for fault in faults:
            log.finish(encode_error(fault.id, fault), 200)
        for request in requests:
            self._start(request, who, SessionOutbox(self, log, streams=streams), headers)
        return log

    def start(self, request: Request, outbox: Outbox) -> None:
        """Start one request whose messages go where the transport says; raises as `accept` does."""
        self._check_room([request])
        self._start(request, self.principal, outbox, None)

    def take(self, message: Notification | Reply) -> None:
        """What wants no answer; a notification we do not know is ignored, as JSON-RPC has it."""
        self.touch()
        self.used = self.used or isinstance(message, Reply)
        if isinstance(message, Reply):
            self._questions.resolve(message)
        elif message.method == "notifications/cancelled":
            self._cancel(message.params.get("requestId"))
        elif message.method == "notifications/initialized":
            self.initialized = True
            self._changed()

    async def ask(self, emit: Callable[[bytes, Kind], None], method: str, params: dict[str, Any]) -> Any:
        """Ask the client; raises ClientCallError."""
        return await self._questions.ask(emit, method, params, patience=self._service.options.request_timeout)

    @property
    def asks(self) -> bool:
        """Whether a handler waits for the client's answer to a question."""
        return bool(self._questions)

    def subscribe(self, uri: str) -> None:
        """From now on the client hears of updates of `uri`."""
        if uri not in self._subscriptions:
            self._check_room_for(uri)
        self._subscriptions.add(uri)
        self._changed()

    def unsubscribe(self, uri: str) -> None:
        """Not any more; never subscribed is fine."""
        self._subscriptions.discard(uri)
        self._changed()

    def heard(self, change: Change) -> None:
        """A change somewhere on the server: pass it on if it concerns this client."""
        if isinstance(change, Missed):
            return self._heard_gap()
        if isinstance(change, ResourceUpdated) and not self._subscribed(change.uri):
            return
        method, params = change_message(change)
        self._say(encode_notification(method, params or None), Kind.LATEST, change)

    def tell_missed(self) -> None:
        """After a restore, once: what changed while nobody listened cannot be known, so it counts as changed."""
        if self._missed:
            self._missed = False
            self.heard(Missed())

    def snapshot(self) -> Snapshot:
        """What a directory records of it."""
        return Snapshot(
            id=self.id,
            epoch=self.streams.epoch,
            owner=self.principal.recorded_as,
            version=self.protocol_version,
            client=self.client,
            initialized=self.initialized,
            log_level=self._log_level,
            created=self._created,
            subscriptions=tuple(self._subscriptions),
        )

    def part(self) -> None:
        """It goes on elsewhere: its readers are told when to come back, and then it is closed."""
        for log in self.streams.all():
            # One that has ended needs no more than its reader's time, and its answer is nowhere else.
            if not log.ended:
                log.close_reader()
        self.close(CloseReason.RELEASED)

    def lost_call(self, request_id: RequestId) -> tuple[EventLog, str]:
        """The stream of a call that ended with an earlier life of this session, and the prefix of its event ids.

        It says so, and ends: its client must not wait for an answer that nobody will give.
        """
        log = self.streams.new(1)
        log.finish(encode_error(request_id, LostCall()), 200)
        return log, self.streams.make_resumable(log, request_id)

    @contextmanager
    def calls_held_back(self) -> Iterator[None]:
        """For the length of the block requests wait in `turn`, so that those in flight come to an end."""
        self._turn = over = trio.Event()
        try:
            yield
        finally:
            self._turn = None
            over.set()

    def hold_calls_back(self) -> None:
        """From now on requests wait in `turn`, until the session is closed: no more of them begin."""
        self._turn = self._turn or trio.Event()

    async def turn(self, request_id: RequestId | None) -> bool:
        """Wait while requests are held back, `TURN_SECONDS` at most; False when the client cancels this one meanwhile."""
        with trio.move_on_after(TURN_SECONDS) as waiting:
            self._waiting[request_id] = waiting
            try:
                while self._turn is not None:
                    await self._turn.wait()
            finally:
                self._waiting.pop(request_id, None)
        return not waiting.cancelled_caught or trio.current_time() >= waiting.deadline

    @property
    def holds_back(self) -> bool:
        """Whether requests are to wait for their `turn`."""
        return self._turn is not None

    @property
    def oldest_call(self) -> float:
        """When the oldest of the requests in flight began (trio clock); infinite when there is none."""
        return min((call.started for call in self._calls.values()), default=math.inf)

    async def calls_done(self) -> None:
        """Wait until no request is in flight."""
        while self._calls:
            if self._last_call_ended.is_set():
                self._last_call_ended = trio.Event()
            await self._last_call_ended.wait()

    def runs(self, request_id: RequestId) -> bool:
        """Whether a request with this id is in flight."""
        return request_id in self._calls

    def hold(self) -> None:
        """Somebody reads a stream: not idle."""
        self.used = True
        self._holds += 1

    def release(self) -> None:
        """One reader less."""
        self._holds -= 1
        self.touch()
        self._nap_no_longer_than(self.streams.next_look)

    def touch(self) -> None:
        """Used just now."""
        self._last_used = trio.current_time()

    def close(self, reason: CloseReason) -> None:
        """End the session, once: cancel its nursery. From any thread, never blocks."""
        self.loop.soon(self._close, reason)

    def _close(self, reason: CloseReason) -> None:
        if self.closed_because is not None:
            return
        self.closed_because = reason
        ending = Ending.SHUTDOWN if reason is CloseReason.SHUTDOWN else Ending.SESSION_CLOSED
        for call in list(self._calls.values()):
            call.cancel(ending)
        if self._turn is not None:
            # They find it closed, and are told why.
            self._turn.set()
            self._turn = None
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(f"session closed: {reason}")

    @property
    def in_flight(self) -> int:
        """Requests that have no answer yet."""
        return len(self._calls)

    # What the hub does with it.

    async def run(
        self, started: Callable[[], Awaitable[None]], idle_timeout: float, *, task_status: trio.TaskStatus[Session]
    ) -> None:
        """Live until closed or idle. What the session's tasks raise comes out, in a group, after they all ended."""
        try:
            async with trio.open_nursery() as self._nursery:
                await started()
                task_status.started(self)
                await self._until_idle(idle_timeout)
                self.close(CloseReason.EXPIRED)
        finally:
            if self.closed_because is None:
                self.closed_because = CloseReason.CRASHED
            self.streams.close()

    # The rest is its own business.

    def _changed(self) -> None:
        self.loop.soon(self._record_change)

    def _record_change(self) -> None:
        # A releasing session must not write its record: the write would clear `released`.
        if self.on_change is not None and self.leaving is None and self.closed_because is None:
            self.on_change()

    def _check_room_for(self, uri: str) -> None:
        limit = ""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            limit = f"{MAX_SUBSCRIPTIONS} resources"
        elif len(encode([*self._subscriptions, uri])) > MAX_SUBSCRIBED_BYTES:
            limit = f"URIs of {MAX_SUBSCRIBED_BYTES} bytes together"
        if limit:
            raise RemoteProtocolError(INVALID_REQUEST, f"A session may subscribe to {limit}")

    def _check_room(self, requests: list[Request]) -> None:
        if self._nursery is None or self.closed_because is not None:
            raise SessionClosed(self.closed_because or "not open yet")
        limit = self._service.options.max_in_flight
        if len(self._calls) + len(requests) > limit:
            raise TooManyRequests(limit)
        ids = [request.id for request in requests]
        if len(set(ids)) < len(ids) or not self._calls.keys().isdisjoint(ids):
            raise RemoteProtocolError(INVALID_REQUEST, "A request with this id is in flight already")

    def _start(self, request: Request, who: Principal, outbox: Outbox, headers: Any) -> None:
        assert self._nursery is not None
        self.used = True
        call = Call(
            self._service,
            request.id,
            request.method,
            request.params,
            self.protocol_version,
            who,
            self.client,
            outbox,
            session=self,
            headers=headers,
        )
        self._calls[request.id] = call
        # Not this task's context: the handler must not inherit this HTTP request's variables.
        self._service.variables.copy().run(self._nursery.start_soon, self._respond, call)

    def _start_task(self, task: Callable[[], Awaitable[object]], fn: Callable[..., object]) -> None:
        if self._nursery is not None and self.closed_because is None:
            self._service.variables.copy().run(partial(self._nursery.start_soon, _run_task, task, name=fn))

    async def _respond(self, call: Call) -> None:
        try:
            await respond(call)
        finally:
            del self._calls[call.request_id]
            if not self._calls:
                self._last_call_ended.set()
            self.touch()
            self._nap_no_longer_than(self.streams.next_look)

    def _cancel(self, request_id: Any) -> None:
        if not is_request_id(request_id):
            return
        if request_id in self._calls:
            self._calls[request_id].cancel(Ending.CANCELLED)
        elif request_id in self._waiting:
            self._waiting[request_id].cancel("the client cancelled the request")

    def _heard_gap(self) -> None:
        for kind in LIST_KINDS:
            if self._service.offers(kind):
                self.heard(ListChanged(kind))
        for uri in self._subscriptions:
            self.heard(ResourceUpdated(uri))

    def _subscribed(self, uri: str) -> bool:
        # "The uri may be a sub-resource of the one that was subscribed to."
        return uri in self._subscriptions or any(
            uri.startswith(known.rstrip("/") + "/") for known in self._subscriptions
        )

    def _say(self, data: bytes, kind: Kind, key: Any = None) -> None:
        # Nothing that is said here is vital, so it never overflows: what there is no room for is missed.
        self.streams.standalone.append(data, kind, key)

    def _nap_no_longer_than(self, deadline: float) -> None:
        if self._nap is not None and deadline < self._nap.deadline:
            self._nap.deadline = deadline

    async def _until_idle(self, idle_timeout: float) -> None:
        while True:
            busy = self._calls or self._holds
            idle_at = trio.current_time() + idle_timeout if busy else self._last_used + idle_timeout
            if idle_at <= trio.current_time():
                return
            with trio.CancelScope(deadline=min(idle_at, self.streams.prune())) as self._nap:
                await trio.sleep_forever()


async def _run_task(task: Callable[[], Awaitable[object]]) -> None:
    with user_code():
        await task()
