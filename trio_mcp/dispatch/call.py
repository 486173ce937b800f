"""One request on its way: who asked, where its messages go, and why it may end early."""

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
    """The client as it described itself: at `initialize`, or in each modern request."""

    info: dict[str, Any]
    capabilities: dict[str, Any]


class Outbox(Protocol):
    """Where a request's messages go."""

    answers_cancelled: bool
    """Whether a cancelled call still gets an error: an HTTP exchange needs an end, stdio wants silence."""

    @property
    def holder(self) -> Holder | None:
        """Whose share of the node's memory the messages count for; None: nobody else's than this request's."""

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Take one encoded message; never blocks."""

    def finish(self, body: bytes | None, status: int) -> None:
        """Take the reply, the last message; None where the wire wants silence."""

    async def settle(self) -> None:
        """Wait as long as this wire makes a handler wait for its reader; raises SlowReader."""

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request of ours and return the client's result (legacy only)."""

    def close_stream(self) -> None:
        """End the connection that reads this request's stream, not the stream: the client comes back for the rest."""


class Ending(Enum):
    """Why a call was cancelled from within; its text is the reply's message."""

    CANCELLED = "Request cancelled"
    CLIENT_LEFT = "The client disconnected"
    SESSION_CLOSED = "The session was closed"
    SHUTDOWN = "The server is shutting down"
    INPUT_REQUIRED = "Input required"
    SLOW_READER = "The client stopped reading"


@dataclass(slots=True, eq=False)
class Call:
    """One request and the scope it runs in."""

    service: Service
    request_id: RequestId
    method: str
    params: dict[str, Any]
    version: str
    principal: Principal
    client: Client
    outbox: Outbox
    session: Conversation | None = None
    tool: Tool | None = None
    """The registered tool of a `tools/call`; `respond` looks it up where the transport has not."""
    log_level: str | None = None
    """The threshold of a modern request; a legacy one asks its session."""
    headers: Mapping[bytes, bytes] | None = None
    """The HTTP request's headers, for handlers that look at them."""
    started: float = field(default_factory=trio.current_time)
    """When it began (trio clock)."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ending: Ending | None = None
    finished: bool = False
    """Answered: whatever still has it may say no more."""
    questions: dict[str, msgspec.Raw] = field(default_factory=dict)
    """What a modern handler asked and has no answer to yet, by key."""
    answers: dict[str, Any] | None = None
    bound_to: bytes = b""
    """What a retry must repeat, noted before the handler could change it."""
    keys: set[str] = field(default_factory=set)
    """Of the questions asked in this run."""
    progress: float | None = None
    reference: str | None = None
    """Of the crash that ended it: the client is shown it, and the log."""

    @property
    def modern(self) -> bool:
        """Whether it stands alone, as requests since 2026-07-28 do: those of earlier versions belong to a session."""
        return self.session is None

    @property
    def label(self) -> str:
        """What logs call it: its method, and the tool's name if there is such a tool."""
        return self.method if self.tool is None else f"{self.method} {self.tool.name}"

    @property
    def tool_name(self) -> str | None:
        """For logs and metrics, which show no name that a client made up: None where there is no such tool."""
        return None if self.tool is None else self.tool.name

    @property
    def progress_token(self) -> RequestId | None:
        """Echoed with its JSON type; raises InvalidParams when it has none a token may have."""
        meta = self.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None and not is_request_id(token):
            raise InvalidParams("_meta.progressToken must be a string or an integer")
        return token

    def note_binding(self) -> None:
        """Note what a retry must repeat, before a handler that may ask can change its arguments."""
        if not self.bound_to:
            target = self.params.get(METHODS[self.method].name_param or "", "")
            salient = [self.method, target, optional_param(self.params, "arguments", {})]
            self.bound_to = msgspec.json.encode(salient, order="sorted")

    def cancel(self, ending: Ending) -> None:
        """Stop the handler; the first reason stands."""
        if self.ending is None:
            self.ending = ending
        self.scope.cancel(ending.value)

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Send one message that belongs to this request, while it runs: nothing may follow its end or its cancellation."""
        if not (self.finished or self.ending is Ending.CANCELLED):
            self.outbox.emit(data, kind, key)
