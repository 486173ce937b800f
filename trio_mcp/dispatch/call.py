"""One request: who asked what of whom, where its messages go, and why it may be cancelled.

A transport makes a `Call` with an `Outbox` of its own and hands it to `dispatcher.respond`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.service import Service
from trio_mcp.dispatch.session import Conversation
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import RequestId, is_request_id, optional_param
from trio_mcp.protocol.methods import METHODS
from trio_mcp.streams.account import Holder
from trio_mcp.streams.backlog import Kind

__all__ = ["Call", "Client", "Ending", "Outbox"]


class Client(msgspec.Struct, frozen=True):
    """The client as it describes itself, unverified: at `initialize`, or in each modern request."""

    info: dict[str, Any]
    """Its Implementation; {} where it says nothing."""
    capabilities: dict[str, Any]
    """Its ClientCapabilities."""


class Outbox(Protocol):
    """Where the messages of one request go; each transport has its own. Messages are encoded JSON-RPC."""

    answers_cancelled: bool
    """Whether a call that its client cancelled is answered with an error: an HTTP exchange needs an end, stdio sends nothing."""

    @property
    def holder(self) -> Holder | None:
        """What the bytes of unread answers are counted for, such as a session; None where each request stands for itself."""

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Take a message that comes before the reply; never blocks.

        `kind` says which messages may be dropped when there is no room, `key` which earlier one this one replaces.
        """

    def finish(self, body: bytes | None, status: int) -> None:
        """Take the reply, after which nothing comes, and its HTTP status; `body` is None where nothing is to be sent."""

    async def wait_for_reader(self) -> None:
        """Wait until the client has read what was sent, where this transport makes handlers wait for it; raises SlowReader."""

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request of the server and return the client's result; raises ClientCallError, always on 2026-07-28."""

    def close_stream(self) -> None:
        """End the response that carries this request's stream; the client resumes the stream. Does nothing where it cannot."""


class Ending(Enum):
    """Why the server cancelled a call. The text is the message of the error that answers it."""

    CANCELLED = "Request cancelled"
    CLIENT_LEFT = "The client disconnected"
    SESSION_CLOSED = "The session was closed"
    SHUTDOWN = "The server is shutting down"
    INPUT_REQUIRED = "Input required"
    SLOW_READER = "The client stopped reading"


@dataclass(slots=True, eq=False)
class Call:
    """One request, from its arrival to its reply. `version` is the protocol version it is answered in."""

    service: Service
    request_id: RequestId
    method: str
    params: dict[str, Any]
    version: str
    principal: Principal
    client: Client
    outbox: Outbox
    session: Conversation | None = None
    """The session it belongs to; None since 2026-07-28."""
    tool: Tool | None = None
    """The registered tool of a `tools/call`; `respond` looks it up where the transport has not."""
    log_level: str | None = None
    """From which level up a modern request wants log messages, None for none; a session has a level of its own."""
    headers: Mapping[bytes, bytes] | None = None
    """Those of the HTTP request, by lower-case name; None on stdio."""
    started: float = field(default_factory=trio.current_time)
    """When it began (trio clock)."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """The handler runs in it; `cancel` cancels it."""
    ending: Ending | None = None
    """Set by `cancel`; None while nobody cancelled it from within."""
    finished: bool = False
    """It is answered: a task that still has its context can send nothing more."""
    questions: dict[str, msgspec.Raw] = field(default_factory=dict)
    """What a modern handler asked in this round and has no answer to, by key."""
    answers: dict[str, Any] | None = None
    """What a retry brought, by key; None until somebody looks."""
    bound_to: bytes = b""
    """What a retry must repeat, as `note_binding` found it."""
    keys: set[str] = field(default_factory=set)
    """Of the questions asked in this run of the handler."""
    progress: float | None = None
    """The last value that was sent."""
    reference: str | None = None
    """Of the crash that ended it: the client is shown it, and the log line has it."""

    @property
    def modern(self) -> bool:
        """Whether it stands alone, as requests since 2026-07-28 do: those of earlier versions belong to a session."""
        return self.session is None

    @property
    def label(self) -> str:
        """What logs call it: the method, and the name of the tool if there is such a tool."""
        return self.method if self.tool is None else f"{self.method} {self.tool.name}"

    @property
    def tool_name(self) -> str | None:
        """For logs and metrics: None where there is no such tool, because a client can invent names without end."""
        return None if self.tool is None else self.tool.name

    @property
    def progress_token(self) -> RequestId | None:
        """`_meta.progressToken`, echoed with its JSON type; raises InvalidParams for what is neither text nor integer."""
        meta = self.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None and not is_request_id(token):
            raise InvalidParams("_meta.progressToken must be a string or an integer")
        return token

    def note_binding(self) -> None:
        """Note what a retry must repeat: method, target and arguments. To be called before a handler could change these."""
        if not self.bound_to:
            target = self.params.get(METHODS[self.method].name_param or "", "")
            salient = [self.method, target, optional_param(self.params, "arguments", {})]
            self.bound_to = msgspec.json.encode(salient, order="sorted")

    def cancel(self, ending: Ending) -> None:
        """Cancel the handler. Of several reasons the first is told."""
        if self.ending is None:
            self.ending = ending
        self.scope.cancel(ending.value)

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Send a message that belongs to this request; nothing is sent once it is answered or its client has cancelled it."""
        if not (self.finished or self.ending is Ending.CANCELLED):
            self.outbox.emit(data, kind, key)
