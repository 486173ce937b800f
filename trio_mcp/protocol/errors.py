"""The errors of MCP: which side caused each, its JSON-RPC code and its HTTP status.

McpError                      everything this package raises on purpose
├─ ProtocolError              carries the JSON-RPC code and data
│  ├─ LostCall                the node that ran the request is gone
│  ├─ Busy                    not now: HTTP 429 or 503
│  ├─ LocalProtocolError      our side asked for something MCP forbids (a bug)
│  └─ RemoteProtocolError     the peer did
│     ├─ InvalidParams
│     │  └─ ResourceNotFoundError
│     └─ MissingClientCapability
├─ ToolError, ResourceError, PromptError     raised by handlers, with a text for the client
├─ InvalidArguments           a tool's arguments do not fit its schema
├─ ClaimMissing               a handler needs a value that the access token does not have
├─ SessionError: SessionNotFound, TooManySessions, SessionClosed
├─ StreamError: InvalidEventId, SlowReader
└─ ClientCallError: ClientRefused, ClientTimeout, NoBackChannel

UserCodeCrash                 an Exception in place of something that is none, such as SystemExit, raised by user code
"""

from __future__ import annotations

from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SESSION_NOT_FOUND = -32001
"""As TypeScript servers send it; legacy only."""
RESOURCE_NOT_FOUND = -32002
"""Legacy only; 2026-07-28 uses INVALID_PARAMS (SEP-2164)."""
REQUEST_CANCELLED = -32800
"""Ends the HTTP exchange of a cancelled legacy call; the code is LSP's, as in the Python SDK."""
HEADER_MISMATCH = -32020
MISSING_CLIENT_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

_LEGACY_STATUS = {PARSE_ERROR: 400, INVALID_REQUEST: 400, SESSION_NOT_FOUND: 404}
_MODERN_STATUS = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}


def http_status(code: int, *, modern: bool) -> int:
    """The HTTP status for a JSON-RPC error, when the head of the response has not been sent."""
    return (_MODERN_STATUS if modern else _LEGACY_STATUS).get(code, 200)


class McpError(Exception):
    """Everything this package raises on purpose."""


class ProtocolError(McpError):
    """Becomes the JSON-RPC error `{code, message, data}`."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class LostCall(ProtocolError):
    """The error for a request whose node is gone. It is not repeated: it may have been done."""

    def __init__(self) -> None:
        super().__init__(INTERNAL_ERROR, "The node that ran this request is gone; it may or may not have been done")


class Busy(ProtocolError):
    """-32603 with the HTTP status 429 or 503: the same request may be sent again later."""

    def __init__(self, status: int, message: str, data: Any = None) -> None:
        super().__init__(INTERNAL_ERROR, message, data)
        self.status = status


class LocalProtocolError(ProtocolError):
    """Our side asked for something MCP forbids: a bug in the server or its handlers."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something MCP forbids."""


class InvalidParams(RemoteProtocolError):
    """-32602: the method exists, its params do not fit."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(INVALID_PARAMS, message, data)


class ResourceNotFoundError(InvalidParams):
    """No resource at `uri`; -32002 on the legacy wire, -32602 on the modern one."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"Resource not found: {uri}", {"uri": uri})
        self.uri = uri


class MissingClientCapability(RemoteProtocolError):
    """-32021: the request needs a capability its client did not declare (2026-07-28 basic).

    `required` is a ClientCapabilities object, such as `{"elicitation": {}}` or `{"extensions": {"com.example/echo": {}}}`.
    """

    def __init__(self, required: dict[str, Any]) -> None:
        # Of an extension the name says more than that it is one.
        names = ", ".join([*(name for name in required if name != "extensions"), *required.get("extensions", ())])
        super().__init__(
            MISSING_CLIENT_CAPABILITY,
            f"The client did not declare the capability this needs: {names}",
            {"requiredCapabilities": required},
        )
        self.required = required


class ToolError(McpError):
    """A tool's failure, with a text for the model: an `isError` result."""


class ResourceError(McpError):
    """A resource's failure, with a text for the client: -32603."""


class PromptError(McpError):
    """A prompt's failure, with a text for the client: -32603."""


class InvalidArguments(McpError):
    """A tool's arguments do not fit its schema: -32602 before 2025-11-25, `isError` since (SEP-1303)."""


class ClaimMissing(McpError):
    """The access token lacks what a handler needs; the text names the claim, never a value."""


class SessionError(McpError):
    """About a legacy session."""


class SessionNotFound(SessionError):
    """404: `reason` is a value of `sessions.close_reason.CloseReason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Session not found: {reason}")
        self.reason = reason


class TooManySessions(SessionError):
    """503 on `initialize`, or on the request that a session is restored for: the node is at `max_sessions`, or it is draining."""


class SessionClosed(SessionError):
    """The session ended while this was running; `reason` is a value of `sessions.close_reason.CloseReason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Session closed: {reason}")
        self.reason = reason


class StreamError(McpError):
    """About one message stream."""


class InvalidEventId(StreamError):
    """400: a `Last-Event-ID` that was never issued here."""


class SlowReader(StreamError):
    """The reader made no progress within the write deadline."""


class ClientCallError(McpError):
    """A request to the client (`ctx.elicit`, `ctx.sample`, …) has no answer."""


class ClientRefused(ClientCallError):
    """The client answered with the JSON-RPC error `code`."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"The client refused: {message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class ClientTimeout(ClientCallError):
    """The client did not answer in time; it was sent `notifications/cancelled`."""


class NoBackChannel(ClientCallError):
    """The client cannot be asked: it lacks the capability, or accepts no stream."""


class UserCodeCrash(Exception):
    """Raised in place of what is no `Exception`, raised by user code: `SystemExit`, a `BaseException` of its own, a group of them.

    The boundary of user code (`dispatch/user_code`) raises it, so that all callers handle it as any other exception.
    `raised` is the original, which logs show.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(repr(raised))
        self.raised = raised
