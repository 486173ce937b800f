"""How a WebSocket ends: the close code and reason that its client is told, and the reason in the records of its session.

1012 is never sent, not when the server restarts either: with it the whole block of a Python client fails, with 1001 only its pending
calls. Source: RFC 6455 §7.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trio_mcp.sessions.close_reason import CloseReason

__all__ = [
    "BINARY",
    "CRASHED",
    "EXPIRED",
    "FLOODED",
    "GOING_AWAY",
    "IDLE",
    "MOST_REASON_BYTES",
    "OUT_OF_ORDER",
    "STALLED",
    "TOO_LARGE",
    "Close",
    "by_client",
    "by_session",
    "code_label",
]

MOST_REASON_BYTES: Final = 123
"""A control frame has 125 bytes, two of them for the code."""

_LEFT = frozenset({1000, 1001, 1005})
"""What clients send that are done: normal closure, a page that is left, and no code at all."""


@dataclass(frozen=True, slots=True)
class Close:
    """The end of one WebSocket."""

    code: int
    reason: str
    session: CloseReason
    """Why its session is closed, if it had one."""
    by_client: bool = False
    """The client has closed it, or is gone: nothing can be sent any more."""
    aborted: bool = False
    """The client takes nothing, so that a close frame would not reach it either: the connection is cut."""


GOING_AWAY: Final = Close(1001, "the server is shutting down", CloseReason.SHUTDOWN)
IDLE: Final = Close(1000, "idle", CloseReason.EXPIRED)
EXPIRED: Final = Close(1008, "authentication expired", CloseReason.GONE)
BINARY: Final = Close(1003, "a message is a text frame", CloseReason.GONE)
TOO_LARGE: Final = Close(1009, "the message is too large", CloseReason.GONE)
OUT_OF_ORDER: Final = Close(1008, "too many messages before initialize was answered", CloseReason.GONE)
CRASHED: Final = Close(1011, "internal error", CloseReason.CRASHED)
STALLED: Final = Close(1006, "the client reads nothing", CloseReason.GONE, aborted=True)
FLOODED: Final = Close(1006, "the client left too many messages unread", CloseReason.OVERFLOW, aborted=True)

_BY_SESSION = {
    CloseReason.DELETED: (1008, "an operator ended the session"),
    CloseReason.EXPIRED: (IDLE.code, IDLE.reason),
    CloseReason.CRASHED: (1011, "a task of the session failed"),
    CloseReason.CLOSED: (1000, "the server ended the session"),
    CloseReason.SHUTDOWN: (GOING_AWAY.code, GOING_AWAY.reason),
}


def by_session(reason: CloseReason) -> Close:
    """How the connection ends whose session was closed for `reason`."""
    if reason is CloseReason.OVERFLOW:
        return FLOODED
    code, text = _BY_SESSION.get(reason, (1001, "the session has ended"))
    return Close(code, text, reason)


def by_client(code: int) -> Close:
    """How a connection ended on which the server reports a disconnect with `code`; 1006 where no close frame came."""
    why = "the connection was lost" if code == 1006 else "the client closed it"
    return Close(code, why, CloseReason.DELETED if code in _LEFT else CloseReason.GONE, by_client=True)


def code_label(code: int) -> str:
    """The label of metrics: clients may send any code of four digits."""
    return str(code) if 1000 <= code <= 1015 else "other"
