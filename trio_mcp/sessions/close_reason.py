"""Why a session is not here: one enum for logs, metrics, tombstones and the 404."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CloseReason"]


class CloseReason(StrEnum):
    """Why a session was closed, or why a request does not find it.

    The values are an interface: they are `reason` in logs, metrics, the 404's `data` and the tombstones that other versions of trio-mcp read.
    """

    DELETED = "deleted"
    """Its client sent DELETE or closed its WebSocket, or an operator ended it."""
    EXPIRED = "expired"
    """Nobody used it for the idle timeout."""
    CRASHED = "crashed"
    """A function of `on_session` or `on_restore`, or a task of `session.start_soon`, raised; or `on_restore` took over 30 s."""
    OVERFLOW = "overflow"
    """Too many responses and requests waited for a client that did not read them."""
    GONE = "gone"
    """It lived on a WebSocket, and that connection was lost."""
    UNUSED = "unused"
    """The node was full, and this session had not been used since `initialize`."""
    CLOSED = "closed"
    """Code of the server's author called `session.close()`."""
    SHUTDOWN = "shutdown"
    """The node stops."""

    MOVED = "moved"
    """Another node has claimed it: only the copy here ends."""
    RELEASED = "released"
    """This node stops and lets another node claim it: only the copy here ends."""

    NODE_GONE = "node_gone"
    """The node that had it is gone: the reason that other nodes give and write into its tombstone."""
    ELSEWHERE = "elsewhere"
    """Another node has it: an answer of the directory for `Hub.has_session`, never that of a 404."""
    UNKNOWN = "unknown"
    """There is no such session, or it is another principal's."""
    OTHER = "other"
    """A tombstone of another version of trio-mcp has a word that this one does not know."""

    @classmethod
    def read(cls, word: str) -> CloseReason:
        """The reason that a tombstone or a peer names; OTHER when it is none of ours, so that labels of metrics are bounded."""
        try:
            return cls(word)
        except ValueError:
            return cls.OTHER

    @property
    def explanation(self) -> str:
        """The part of a 404's message that gives the reason."""
        return _EXPLANATIONS[self]

    @property
    def is_failure(self) -> bool:
        """Whether the end was a fault; metrics then give the reason as `error_type`, too."""
        return self in (CloseReason.CRASHED, CloseReason.OVERFLOW)

    @property
    def goes_on(self) -> bool:
        """Whether the session itself goes on: its record is another node's by now, and must be left alone."""
        return self in (CloseReason.MOVED, CloseReason.RELEASED)

    @property
    def as_seen_by_peers(self) -> CloseReason:
        """The reason as other nodes give it: for them a node that was shut down is gone."""
        return CloseReason.NODE_GONE if self is CloseReason.SHUTDOWN else self


_EXPLANATIONS = {
    CloseReason.DELETED: "its client ended it",
    CloseReason.EXPIRED: "it was unused for too long",
    CloseReason.CRASHED: "a task of it failed",
    CloseReason.OVERFLOW: "its client left too many messages unread",
    CloseReason.GONE: "its connection was lost",
    CloseReason.UNUSED: "the server was full, and it had not been used",
    CloseReason.CLOSED: "the server ended it",
    CloseReason.SHUTDOWN: "the server restarted",
    CloseReason.MOVED: "another node has it now",
    CloseReason.RELEASED: "another node has it now",
    CloseReason.NODE_GONE: "its node is gone",
    CloseReason.ELSEWHERE: "another node has it now",
    CloseReason.UNKNOWN: "it is unknown here",
    CloseReason.OTHER: "it was ended",
}
