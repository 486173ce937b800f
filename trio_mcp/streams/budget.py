"""How much the streams of one session, or of one connection, may hold together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from trio_mcp.defaults import EVENT_RETENTION, MAX_EVENTS, MAX_SESSION_BYTES, MAX_STREAM_BYTES
from trio_mcp.streams.account import Account

__all__ = ["DEFAULT_BOUNDS", "Budget", "StreamBounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBounds:
    """`Options.streams`: what waits in the streams of a session, and what they keep for a client that comes back."""

    events: int = MAX_EVENTS
    """Messages of one stream."""
    stream_bytes: int = MAX_STREAM_BYTES
    """Bytes of one stream."""
    session_bytes: int = MAX_SESSION_BYTES
    """Bytes of all streams of one session."""
    keep_seconds: float = EVENT_RETENTION
    """How long a stream that ended can still be resumed."""


DEFAULT_BOUNDS = StreamBounds()


def _nothing() -> None:
    pass


class Budget(msgspec.Struct, eq=False):
    """Counts bytes for one session; `account` counts them for the node, too."""

    limit: int = DEFAULT_BOUNDS.session_bytes
    """For what may be dropped, and for answers while nobody reads them."""
    used: int = 0
    reclaim: Callable[[], None] | None = None
    """Called once before anything is dropped: frees what is only kept for replay."""
    account: Account = msgspec.field(default_factory=Account)
    unread: int = 0
    """The part of `used` that is responses and requests which no reader has yet."""
    abandoned: Callable[[], int] | None = None
    """How much of `unread` nobody reads; None: all of it."""
    give_up: Callable[[], None] = _nothing
    """Ends the conversation, because nobody reads it and there is no room."""
    unfinished: int = 0
    """Bytes of answers that wait for the rest of their batch; not in `used`."""
    closed: bool = False
    """The conversation is over: what its last readers leave is kept for nobody."""

    def charge(self, size: int, weight: int) -> None:
        """`size` bytes of messages more, which weigh `weight` bytes more than that."""
        self.used += size
        self.account.charge(size + weight)

    def release(self, size: int, weight: int) -> None:
        """Less."""
        self.used -= size
        self.account.release(size + weight)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """An answer of `size` bytes waits for its reader for the length of the block, in no log."""
        self.unread += size
        self.used += size
        self.account.charge(size)
        try:
            yield
        finally:
            self.unread -= size
            self.used -= size
            self.account.release(size)

    def add_unfinished(self, size: int) -> None:
        """An answer of `size` bytes waits for the rest of its batch."""
        self.unfinished += size
        self.account.charge_unfinished(size)

    def remove_unfinished(self, size: int) -> None:
        """The batch is complete, or given up."""
        self.unfinished -= size
        self.account.release_unfinished(size)

    @property
    def exceeded(self) -> bool:
        """Whether the logs hold more than they may; answers that are being read do not count."""
        return self.used > self.limit and self.used - self.unread + self.abandoned_bytes() > self.limit

    def abandoned_bytes(self) -> int:
        """Bytes that may not be dropped and that nobody reads."""
        return self.unread if self.abandoned is None else self.abandoned()
