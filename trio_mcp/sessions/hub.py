"""All sessions of this node: opened, found, restored and closed, each supervised in a task of the hub's nursery."""

from __future__ import annotations

import logging
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.defaults import MAX_SESSIONS, SESSION_IDLE_TIMEOUT
from trio_mcp.dispatch.call import Client, Service
from trio_mcp.dispatch.session import Session
from trio_mcp.dispatch.user_code import call_user, report
from trio_mcp.features.functions import is_async
from trio_mcp.observability.logs import event, session_label
from trio_mcp.protocol.errors import SessionClosed, SessionNotFound, TooManySessions
from trio_mcp.protocol.handshake import Offer, negotiate, usable
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import Directory, MemoryDirectory, Snapshot
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.shares import Shares
from trio_mcp.streams.event_log import EventLog

__all__ = ["Hub", "HubOptions", "SessionHook", "random_node_id"]

logger: logging.Logger = logging.getLogger("trio_mcp.sessions")

SessionHook = Callable[[Session], object]
"""A function of `@mcp.on_session` or `@mcp.on_restore`; a sync one runs in a worker thread."""

RESTORE_SECONDS = 30.0
"""For all `@mcp.on_restore` functions together: the session's requests wait for them, and so does a node that stops."""

UNUSED_SECONDS = 1.0
"""A full node does not end a session younger than this: its client needs a round trip to send the first request."""

END_SECONDS = 0.25
"""How long a DELETE waits until other nodes can know that the session has ended. Its handlers may take longer to clean up."""

ROOM_SECONDS = 2.0
"""How long a new or restored session waits for a place in a full node that has unused ones."""

_RANDOM_BYTES = 18
"""144 random bits, 24 url-safe characters: session ids are credentials (security best practices, session hijacking)."""


def random_node_id() -> str:
    """The id of a node that is given none."""
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How many sessions a node may have, and how long one may be idle."""

    node_id: str = field(default_factory=random_node_id)
    max_sessions: int = MAX_SESSIONS
    session_idle_timeout: float = SESSION_IDLE_TIMEOUT
    """Seconds."""
    max_per_principal: int | None = None
    """Sessions of one authenticated caller; None: any number."""
    max_per_address: int | None = None
    """Sessions of one client address, as a trusted proxy gives it; None: any number."""


class Hub:
    """The sessions of one node. What a task of a session raises ends that session only.

    A session is *opening* while it has a place and is not served yet (`_opening`, until its `on_restore` functions have returned),
    *admitted* from then on (`_sessions`, `LiveSession.admitted`), and *closed* from `LiveSession.close` on; it leaves `_sessions` when
    its last task has ended.
    """

    def __init__(
        self,
        service: Service,
        options: HubOptions,
        *,
        hooks: list[SessionHook],
        restore_hooks: list[SessionHook],
    ) -> None:
        self.options = options
        self.directory: Directory = MemoryDirectory()
        self._service = service
        self._hooks = hooks
        self._restore_hooks = restore_hooks
        self._sessions: dict[str, LiveSession] = {}
        self._bound: dict[str, LiveSession] = {}
        """Those that live on one connection each: no request finds them."""
        self._opening: set[str] = set()
        self._unused: dict[str, LiveSession] = {}
        """Sessions that may be unused, oldest first; `_next_victim` takes out those that were used since."""
        self.shares: Shares = Shares(per_principal=options.max_per_principal, per_address=options.max_per_address)
        self._making_room = trio.Lock()
        self._freed = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._sessions) + len(self._bound) + len(self._opening)

    @property
    def sessions(self) -> list[LiveSession]:
        """All that are open or closing, oldest first; those that live on one connection last."""
        return [*self._sessions.values(), *self._bound.values()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the sessions for the length of the block; its end closes those that are left."""
        async with trio.open_nursery() as self._nursery:
            try:
                yield
            finally:
                self.close_all(CloseReason.SHUTDOWN)
                self._nursery.cancel_scope.cancel("the server stops")

    @property
    def _full(self) -> bool:
        """Whether there is no room for another session."""
        return self._nursery is None or len(self) >= self.options.max_sessions

    @asynccontextmanager
    async def room_for(self, session_id: str) -> AsyncIterator[None]:
        """Keep a place for a session that is about to begin.

        Where the node is full, the oldest session that was never used ends for it, which is waited for ROOM_SECONDS at most. Raises
        TooManySessions when there is no room then.
        """
        await self._take_place(session_id)
        try:
            yield
        finally:
            self._opening.discard(session_id)

    async def _take_place(self, session_id: str) -> None:
        if session_id not in self._opening:
            if self._full:
                await self._make_room()
                if self._full:
                    raise TooManySessions(f"This process serves at most {self.options.max_sessions} sessions")
            self._opening.add(session_id)

    @property
    def takes_more(self) -> bool:
        """Whether there is room for another session, or an unused one to make room."""
        return not self._full or self._next_victim() is not None

    @property
    def room(self) -> int:
        """How many more sessions this node may have."""
        return 0 if self._nursery is None else max(0, self.options.max_sessions - len(self))

    async def open(
        self,
        offer: Offer,
        principal: Principal,
        *,
        address: str | None = None,
        standalone: EventLog | None = None,
        over: Callable[[], None] | None = None,
    ) -> LiveSession:
        """Start a session for what a client offers in `initialize`.

        `address` is the client's, where it is trusted; `standalone` the session's own stream, where one exists already (stdio, WebSocket),
        and `over` is called then when the session has ended.
        A full node ends a session that was never used, if there is one. Raises TooManyForCaller, and TooManySessions when there
        is no room.
        """
        version = negotiate(offer.version)
        client = Client(offer.client_info, usable(offer.capabilities, version))
        session = LiveSession(self._new_id(), self._service, principal, client, version, standalone, over=over)
        try:
            await self.shares.take(session.id, principal, address)
            await self._start(session, partial(self._opened, session))
        except BaseException:
            self.shares.give_back(session.id)
            raise
        return session

    async def restore(self, snapshot: Snapshot, principal: Principal) -> LiveSession:
        """Go on with a session whose node is gone: with the same id, and none of its streams. The caller has claimed it.

        Returns when the functions of `@mcp.on_restore` have returned. A full node makes room as `open` does. Raises
        TooManySessions, and SessionClosed when such a function raised, or when all took longer than RESTORE_SECONDS.
        """
        session = LiveSession.restoring(snapshot, self._service, principal)
        self.shares.note(session.id, principal)
        await self._start(session, partial(self._restored, session, principal))
        if session.closed_because is not None:
            raise SessionClosed(session.closed_because)
        return session

    def came_from(self, session: LiveSession, address: str | None) -> None:
        """Count a session that was restored here for the client's address, which a request for it tells; see `open`."""
        if address is not None and self._sessions.get(session.id) is session:
            self.shares.note(session.id, session.principal, address)

    async def find(self, session_id: str, principal: Principal) -> LiveSession:
        """The session, if it is here, open and this principal's; raises SessionNotFound with the reason this principal may know."""
        session = self._sessions.get(session_id)
        if session is None or session.principal != principal:
            raise SessionNotFound(await self.directory.why_gone(session_id, principal))
        if session.closed_because is not None:
            # Its last tasks are still ending, and its tombstone is not written yet.
            raise SessionNotFound(session.closed_because)
        return session

    def get(self, session_id: str, principal: Principal) -> LiveSession | None:
        """The session, if it is here, open and this principal's, and does not go to another node now."""
        session = self._sessions.get(session_id)
        if session is None or session.closed_because is not None or session.release_pending is not None:
            return None
        # Mostly it is the very same object, and to compare two costs more.
        return session if session.principal is principal or session.principal == principal else None

    def local(self, session_id: str) -> LiveSession | None:
        """The session that requests may name, if this node has it, of whichever principal, and even if it is closing."""
        return self._sessions.get(session_id)

    def owned(self, session_id: str) -> LiveSession | None:
        """The same, also one that lives on one connection: for what operators and records say of it, not for requests."""
        return self._sessions.get(session_id) or self._bound.get(session_id)

    async def has_session(self, session_id: str, principal: Principal) -> bool:
        """Whether the session is here; a warning in the log when another node has it, for then the balancer chose wrong."""
        if self.get(session_id, principal) is not None:
            return True
        if await self.directory.why_gone(session_id, principal) is CloseReason.ELSEWHERE:
            event(logger, logging.WARNING, "session is elsewhere", session=session_label(session_id))
        return False

    async def end(self, session: LiveSession, reason: CloseReason) -> None:
        """Close a session and wait until its end is recorded, `END_SECONDS` at most.

        Without that wait a request that follows could be relayed by a node which still knows this one as the owner.
        """
        session.close(reason)
        with trio.move_on_after(END_SECONDS):
            while self._sessions.get(session.id) is session:
                await self._freed.park()
            await self.directory.ended()

    def close_all(self, reason: CloseReason) -> None:
        """Close every session."""
        for session in self.sessions:
            session.close(reason)

    def _new_id(self) -> str:
        # As `secrets.token_urlsafe`, which takes twice as long.
        return f"{self.options.node_id}.{urlsafe_b64encode(os.urandom(_RANDOM_BYTES)).decode()}"

    async def _make_room(self) -> None:
        """End the oldest session that was never used, as long as the node is full and has one.

        It must be UNUSED_SECONDS old: until then its client may be about to use it. Waits ROOM_SECONDS at most, and one caller at a
        time, so that each ends a session of its own.
        """
        with trio.move_on_after(ROOM_SECONDS):
            async with self._making_room:
                while self._full and (victim := self._next_victim()) is not None:
                    if await self._freed_before(victim.opened_at + UNUSED_SECONDS):
                        continue
                    if not victim.used:
                        # It may be closed already, and be taken out: others have looked for a victim meanwhile.
                        self._unused.pop(victim.id, None)
                        victim.close(CloseReason.UNUSED)
                        await self._freed.park()

    async def _freed_before(self, deadline: float) -> bool:
        """Wait until a session has ended, or for `deadline` (trio clock); whether one has ended."""
        with trio.move_on_at(deadline):
            await self._freed.park()
            return True
        return False

    def _next_victim(self) -> LiveSession | None:
        """The oldest session that was never used; None when all were."""
        for session_id, session in list(self._unused.items()):
            if not session.used and session.closed_because is None:
                return session
            del self._unused[session_id]
        return None

    async def _start(self, session: LiveSession, begin: Callable[[], Awaitable[None]]) -> None:
        """Returns when `begin` has returned, or the session has ended before that. When the caller is cancelled, the session ends."""
        await self._take_place(session.id)
        began = trio.Event()
        try:
            assert self._nursery is not None
            # Not this task's context: the session's tasks must not inherit the variables of the request that opens it.
            variables = self._service.variables.copy()
            variables.run(self._nursery.start_soon, self._supervise, session, begin, began)
            await began.wait()
        finally:
            if not began.is_set():
                session.close(CloseReason.CRASHED)
            self._opening.discard(session.id)

    async def _supervise(self, session: LiveSession, begin: Callable[[], Awaitable[None]], began: trio.Event) -> None:
        """Run one session to its end; what its tasks raise is logged here and goes no further."""
        leave = self._service.bus.subscribe(session.notify)
        try:
            # It is closed already where its caller was cancelled before this task ran.
            if session.closed_because is None:
                await session.run(begin, self.options.session_idle_timeout, began)
        except* Exception as crash:
            # What user code raised in tasks and hooks. With a star: while the server stops it comes in one group with Cancelled,
            # which has to go on.
            report(logger, "session crashed", crash, session=session.short_id)
        finally:
            # Where it failed before it began, `open` and `restore` look at `closed_because`.
            began.set()
            leave()
            self._forget(session, trio.current_time() - session.opened_at)

    async def _opened(self, session: LiveSession) -> None:
        await self.directory.opened(session.snapshot())
        self._admit(session, "session opened")

    async def _restored(self, session: LiveSession, principal: Principal) -> None:
        with trio.fail_after(RESTORE_SECONDS):
            await trio.lowlevel.checkpoint()
            for hook in self._restore_hooks:
                await self._call(hook, session)
        # Again, for an earlier copy of it may have ended here meanwhile.
        self.shares.note(session.id, principal)
        self._admit(session, "session restored")

    def _admit(self, session: LiveSession, news: str) -> None:
        session.admitted = True
        self._home(session)[session.id] = session
        self._opening.discard(session.id)
        if not session.restored and not session.bound:
            self._unused[session.id] = session
        session.on_change = lambda: self.directory.changed(session.snapshot())
        self._service.metrics.session_opened(session.protocol_version)
        if logger.isEnabledFor(logging.INFO):
            name = str(session.client_info.get("name", ""))[:64]
            event(logger, logging.INFO, news, session=session.short_id, client=name)
        for hook in self._hooks:
            session.start_soon(self._call, hook, session)

    def _home(self, session: LiveSession) -> dict[str, LiveSession]:
        return self._bound if session.bound else self._sessions

    async def _call(self, hook: SessionHook, session: LiveSession) -> None:
        await call_user(hook, session.user_session, is_async=is_async(hook), limiter=self._service.threads)

    def _forget(self, session: LiveSession, seconds: float) -> None:
        reason = session.closed_because or CloseReason.CRASHED
        latest = self._home(session).get(session.id)
        if latest is None or latest is session:
            self.shares.give_back(session.id)
        if not session.admitted:
            # It never was open, so nothing has counted it; `restore` raises the reason.
            return
        if latest is session:
            del self._home(session)[session.id]
            self._unused.pop(session.id, None)
            self._freed.unpark_all()
            self.directory.closed(session.snapshot(), reason)
        # Otherwise it was restored here while its last tasks still ended: the directory's record is of the later copy.
        self._service.metrics.session_closed(reason, session.protocol_version, seconds, failed=reason.is_failure)
        event(logger, logging.INFO, "session closed", session=session.short_id, reason=reason, why=session.why_closed)
