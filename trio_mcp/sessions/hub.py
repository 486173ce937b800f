"""Every live session on this node, and the nursery that owns them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.call import Client
from trio_mcp.dispatch.service import Service
from trio_mcp.observability.logs import event
from trio_mcp.protocol.errors import SessionNotFound, TooManySessions
from trio_mcp.protocol.handshake import Offer, negotiate, usable
from trio_mcp.sessions.directory import Directory, MemoryDirectory
from trio_mcp.sessions.session import Session
from trio_mcp.streams.event_log import EventLog

__all__ = ["Hub", "HubOptions", "SessionHook"]

logger = logging.getLogger("trio_mcp.sessions")

SessionHook = Callable[[Session], Awaitable[object]]

_RANDOM_BYTES = 18
"""144 random bits, 24 url-safe characters: session ids are credentials (SBP session hijacking)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How many sessions, and how long an unused one lives (seconds)."""

    node_id: str
    max_sessions: int = 10_000
    session_idle_timeout: float = 1_800.0


class Hub:
    """Opens, finds and closes sessions. A session's crash ends that session only."""

    def __init__(
        self, service: Service, options: HubOptions, *, hooks: list[SessionHook], directory: Directory | None = None
    ) -> None:
        self._service = service
        self._options = options
        self._hooks = hooks
        self._directory = directory or MemoryDirectory()
        self._sessions: dict[str, Session] = {}
        self._opening: set[str] = set()
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._sessions) + sum(each not in self._sessions for each in self._opening)

    @property
    def sessions(self) -> list[Session]:
        """The live ones, oldest first."""
        return list(self._sessions.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the sessions for the length of the block; its end closes those that are left."""
        async with trio.open_nursery() as self._nursery:
            try:
                yield
            finally:
                self.close_all("shutdown")
                self._nursery.cancel_scope.cancel("the server stops")

    async def open(self, offer: Offer, principal: Principal, *, standalone: EventLog | None = None) -> Session:
        """Start a session for a client's offer; raises TooManySessions. `standalone` is its own stream, where one exists."""
        if self._nursery is None or len(self) >= self._options.max_sessions:
            raise TooManySessions(f"This node serves at most {self._options.max_sessions} sessions")
        version = negotiate(offer.version)
        client = Client(offer.client_info, usable(offer.capabilities, version))
        session = Session(self._new_id(), self._service, principal, client, version, standalone)
        self._opening.add(session.id)
        try:
            await self._nursery.start(self._supervise, session)
        finally:
            self._opening.discard(session.id)
        return session

    async def find(self, session_id: str, principal: Principal) -> Session:
        """Raises SessionNotFound with the reason this principal may know."""
        session = self._sessions.get(session_id)
        if session is None or session.principal != principal:
            raise SessionNotFound(await self._directory.why_gone(session_id, principal))
        if session.closed_because is not None:
            # Its last tasks are still ending: it is gone already, and its tombstone is not written yet.
            raise SessionNotFound(session.closed_because)
        return session

    def get(self, session_id: str, principal: Principal) -> Session | None:
        """The live session, if it is this principal's."""
        session = self._sessions.get(session_id)
        if session is None or session.closed_because is not None or session.principal != principal:
            return None
        return session

    def close_all(self, reason: str) -> None:
        """Close every session."""
        for session in self.sessions:
            session.close(reason)

    def _new_id(self) -> str:
        return f"{self._options.node_id}.{secrets.token_urlsafe(_RANDOM_BYTES)}"

    async def _supervise(self, session: Session, *, task_status: trio.TaskStatus[Session]) -> None:
        """Contain one session: its crash is logged here and costs only itself."""
        opened_at = trio.current_time()
        leave = self._service.bus.subscribe(session.heard)
        try:
            await session.run(
                partial(self._opened, session), self._options.session_idle_timeout, task_status=task_status
            )
        except* Exception as crash:
            # The boundary of user tasks: background work and hooks. A star, for what fails while the server stops
            # comes in a group with Cancelled, and must not stop it otherwise than it does.
            event(logger, logging.ERROR, "session crashed", session=session.short_id, error=crash)
        finally:
            leave()
            self._forget(session, trio.current_time() - opened_at)

    async def _opened(self, session: Session) -> None:
        await self._directory.opened(session.id, session.principal)
        self._sessions[session.id] = session
        self._service.metrics.session_opened(session.protocol_version)
        name = str(session.client_info.get("name", ""))[:64]
        event(logger, logging.INFO, "session opened", session=session.short_id, client=name)
        for hook in self._hooks:
            session.start_soon(hook, session)

    def _forget(self, session: Session, seconds: float) -> None:
        reason = session.closed_because or "crashed"
        if self._sessions.pop(session.id, None) is None:
            return
        self._directory.closed(session.id, session.principal, reason)
        self._service.metrics.session_closed(reason, session.protocol_version, seconds)
        event(logger, logging.INFO, "session closed", session=session.short_id, reason=reason)
