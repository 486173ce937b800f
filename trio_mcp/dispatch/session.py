"""The session that handlers, hooks and tests meet, and the port to what runs it.

`Session` is what users see and nothing else; `Conversation` is the port behind it, which `sessions/live_session` implements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVarTuple, cast

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.protocol.envelope import LEVELS, LogLevel
from trio_mcp.streams.bus import Change, ListChanged, ResourceUpdated
from trio_mcp.streams.loop import Loop, in_loop

__all__ = ["Conversation", "Session"]

Ts = TypeVarTuple("Ts")


class Conversation(Protocol):
    """A legacy session, as far as its requests and its `Session` may touch it."""

    log_level: str

    @property
    def id(self) -> str: ...
    @property
    def short_id(self) -> str: ...
    @property
    def principal(self) -> Principal: ...
    @property
    def protocol_version(self) -> str: ...
    @property
    def client_info(self) -> dict[str, Any]: ...
    @property
    def client_capabilities(self) -> dict[str, Any]: ...
    @property
    def restored(self) -> bool: ...
    @property
    def loop(self) -> Loop: ...

    @property
    def user_session(self) -> Session:
        """What users meet: one object, for as long as the session is on this node."""

    def subscribe(self, uri: str) -> None:
        """The client gets notifications of updates of `uri`; raises RemoteProtocolError beyond the bounds."""

    def unsubscribe(self, uri: str) -> None:
        """The client gets them no more; a URI it never subscribed to is ignored."""

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run a task in the session's nursery; raises SessionClosed."""

    def notify(self, change: Change) -> None:
        """Send the client a notification of a change, if it concerns it; never blocks."""

    def send_log(self, level: str, data: Any, logger: str | None) -> None:
        """Send a log message, if the client wants its level; never blocks."""

    def close_for_user(self, reason: str) -> None:
        """End the session for user code; from any thread."""


class Session:
    """One client's session: `ctx.session` in handlers of versions up to 2025-11-25, and what `@mcp.on_session` functions get.

    It is the same object for the whole life of the session on this node, so it may be a key of a dict or of a
    `WeakKeyDictionary`. The async methods belong to the event loop and raise RuntimeError in other threads; `start_soon`, `close`
    and setting `log_level` work from any thread.
    """

    __slots__ = ("__weakref__", "_conversation")

    _spoken_name = "session"

    def __init__(self, conversation: Conversation) -> None:
        """Made by the server; tests get one from `@mcp.on_session`."""
        self._conversation = conversation

    def __repr__(self) -> str:
        return repr(self._conversation)

    @property
    def id(self) -> str:
        """The `Mcp-Session-Id`. A credential: log `short_id` (2025-11-25 basic/transports, session management)."""
        return self._conversation.id

    @property
    def short_id(self) -> str:
        """Eight characters of the id, as the server's own log lines show them."""
        return self._conversation.short_id

    @property
    def principal(self) -> Principal:
        """Who opened it, without claims: those are of one request (`ctx.principal`). `ANONYMOUS` without authentication."""
        return self._conversation.principal

    @property
    def protocol_version(self) -> str:
        """The version agreed on at `initialize`, such as "2025-11-25"."""
        return self._conversation.protocol_version

    @property
    def client_info(self) -> dict[str, Any]:
        """The client's Implementation, as it said at `initialize`. Not verified: decide nothing by it."""
        return self._conversation.client_info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """The client's ClientCapabilities, as it said at `initialize`."""
        return self._conversation.client_capabilities

    @property
    def restored(self) -> bool:
        """Whether it began on another node: what that one kept in memory is not here."""
        return self._conversation.restored

    @property
    def log_level(self) -> LogLevel:
        """The least severe level the client is sent, "info" unless it chose another (`logging/setLevel`)."""
        return cast("LogLevel", self._conversation.log_level)

    @log_level.setter
    def log_level(self, level: LogLevel) -> None:
        """Raises ValueError for what is no level of the protocol (RFC 5424 names)."""
        self._conversation.log_level = _checked(level)

    @property
    def _loop(self) -> Loop:
        return self._conversation.loop

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run `fn(*args)` in the session's nursery: it is cancelled with the session, and what it raises closes the session.

        Works from any thread. The task starts with the context variables of the lifespan: it belongs to the session, not to
        the request that started it. Raises SessionClosed when the session has ended.
        """
        self._conversation.start_soon(fn, *args)

    def close(self, reason: str = "closed") -> None:
        """End the session: its tasks are cancelled, its calls answered with an error, and its client gets 404 from then on.

        Works from any thread, never blocks, and does nothing when the session has ended. The log line
        `session closed` has `reason` as `why`; "deleted" and "expired" are reasons of their own, in metrics and the 404 as well.
        """
        self._conversation.close_for_user(reason)

    @in_loop
    async def log(self, level: LogLevel, data: Any, logger: str | None = None) -> None:
        """Send a log message on the session's own stream, if the client wants that level (server/utilities/logging).

        `level` is debug, info, notice, warning, error, critical, alert or emergency; ValueError for any other. `data` may be
        anything: what has no JSON is its `str`. What cannot be sent at all is dropped, and the log warns of it once.
        """
        self._conversation.send_log(_checked(level), data, logger)
        await trio.lowlevel.checkpoint()

    @in_loop
    async def notify_resource_updated(self, uri: str) -> None:
        """Tell this client that the resource at `uri` changed, if it subscribed to it (server/resources)."""
        await self._notify(ResourceUpdated(uri))

    @in_loop
    async def notify_tools_changed(self) -> None:
        """Tell this client that `tools/list` changed."""
        await self._notify(ListChanged("tools"))

    @in_loop
    async def notify_resources_changed(self) -> None:
        """Tell this client that `resources/list` changed."""
        await self._notify(ListChanged("resources"))

    @in_loop
    async def notify_prompts_changed(self) -> None:
        """Tell this client that `prompts/list` changed."""
        await self._notify(ListChanged("prompts"))

    async def _notify(self, change: ListChanged | ResourceUpdated) -> None:
        self._conversation.notify(change)
        await trio.lowlevel.checkpoint()


def _checked(level: str) -> str:
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    return level
