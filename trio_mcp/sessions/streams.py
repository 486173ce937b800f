"""The streams of one session: which there are, how their events are numbered, and what is kept for replay.

An event id is `epoch.stream.n`. The stream part is a serial number and, for a POST, its JSON-RPC id (`4-i7`, `5-sYWJj`): with it
a node that restored the session knows which request an id belongs to, without having its stream. A priming event follows event n
without being event n + 1: its id is that of event n and a mark of its own (`0.g.5p3`).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import trio

from trio_mcp.protocol.errors import InvalidEventId, LostCall
from trio_mcp.protocol.jsonrpc import RequestId, encode_error
from trio_mcp.streams.account import Account
from trio_mcp.streams.budget import DEFAULT_BOUNDS, Budget, StreamBounds
from trio_mcp.streams.event_log import EventLog

__all__ = ["STANDALONE", "EventId", "SessionStreams"]

STANDALONE = "g"
"""The name of the stream that GETs read, for messages that belong to no request."""

PRUNE_SECONDS = 30.0
"""From one look for streams to forget to the next. A look visits every kept stream, so it is not made for each call."""

_STREAM_BYTES = 1024
"""What a kept stream weighs besides its messages (measured); ten thousand of them hold short replies only, and 10 MB."""

_LONGEST_ENCODED_ID = 64
_EVENT_ID = re.compile(r"(\d{1,9})\.([A-Za-z0-9_-]{1,128})\.(\d{1,15})(?:p\d{1,9})?")


@dataclass(frozen=True, slots=True)
class EventId:
    """A parsed `Last-Event-ID`."""

    epoch: int
    stream: str
    n: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises InvalidEventId for text that has not the form of our ids."""
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise InvalidEventId("Last-Event-ID is not one this server issued")
        return cls(int(match[1]), match[2], int(match[3]))

    @property
    def request_id(self) -> RequestId | None:
        """The JSON-RPC id of the POST it belongs to; None for the GET stream, a batch, or an id too long to carry."""
        _, _, tag = self.stream.partition("-")
        try:
            if tag.startswith("i"):
                return int(tag[1:].replace("n", "-", 1))
            if tag.startswith("s"):
                return base64.urlsafe_b64decode(tag[1:] + "=" * (-len(tag[1:]) % 4)).decode()
        except ValueError:
            pass
        return None


_RECLAIM_TO = 0.75
"""Of the limit: reclaimed down to here, so that a session at its limit does not search all its streams for each message."""


class SessionStreams:
    """Makes the logs of one session, and finds them again for a client whose connection was cut."""

    def __init__(
        self,
        bounds: StreamBounds = DEFAULT_BOUNDS,
        standalone: EventLog | None = None,
        epoch: int = 0,
        *,
        account: Account | None = None,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`epoch` counts how often the session was restored. `account` is the node's; `give_up` ends the session when there is no
        room for answers that nobody reads."""
        self.epoch = epoch
        self.budget: Budget = Budget(
            bounds.session_bytes,
            reclaim=self._reclaim,
            account=account or Account(),
            abandoned=self._abandoned,
            give_up=give_up,
        )
        self._bounds = bounds
        self.standalone: EventLog = standalone or self._log()
        self._serial = 0
        self._marks = 0
        self._resumable: dict[str, EventLog] = {}
        self._ended: dict[str, float] = {}

    def new(self, expected: int, *, batched: bool = False) -> EventLog:
        """A log for the replies of one POST: `expected` requests, sent together as an array where it was a batch (`batched`)."""
        return self._log(expected, batched=batched)

    def of_lost_call(self, request_id: RequestId) -> tuple[EventLog, str]:
        """The stream of a call that was lost with the session's earlier node, and the prefix of its event ids.

        It has an error and ends: its client must not wait for an answer that no node will give.
        """
        log = self.new(1)
        log.finish(encode_error(request_id, LostCall()), 200)
        return log, self.make_resumable(log, request_id)

    def make_resumable(self, log: EventLog, request_id: RequestId | None) -> str:
        """Keep a log for clients that resume it, unless the session is over; the prefix of its event ids."""
        self._serial += 1
        tag = _encode_id(request_id)
        name = f"{self._serial}-{tag}" if tag else str(self._serial)
        if not self.budget.closed:
            self._resumable[name] = log
            log.forget = partial(self._forget, name)
            self.budget.charge(_STREAM_BYTES, 0)
        return f"{self.epoch}.{name}."

    @property
    def standalone_prefix(self) -> str:
        """The prefix of the GET stream's event ids."""
        return f"{self.epoch}.{STANDALONE}."

    def mark(self) -> str:
        """The end of the next priming event's id, for ids "MUST be globally unique across all streams" (2025-11-25 transports)."""
        self._marks += 1
        return f"p{self._marks}"

    def find(self, id: EventId) -> tuple[EventLog, str]:
        """The log an event id belongs to, and the prefix of its ids; raises InvalidEventId when it is no longer kept."""
        known = self.standalone if id.stream == STANDALONE else self._resumable.get(id.stream)
        log = known if id.epoch == self.epoch else None
        if log is None or id.n > log.last:
            raise InvalidEventId("Last-Event-ID is of a stream that is not kept any more")
        return log, f"{self.epoch}.{id.stream}."

    def prune(self) -> float:
        """Forget the logs that ended `StreamBounds.keep_seconds` ago; when to look again (trio clock)."""
        if not self._resumable:
            return math.inf
        now = trio.current_time()
        for name, log in list(self._resumable.items()):
            if log.ended and self._ended.setdefault(name, now) <= now - self._bounds.keep_seconds:
                self._forget(name)
        return self.next_look

    @property
    def next_look(self) -> float:
        """When there may be a log to forget (trio clock)."""
        return trio.current_time() + PRUNE_SECONDS if self._resumable else math.inf

    def all(self) -> Iterator[EventLog]:
        """Every log that a client may be reading."""
        yield self.standalone
        yield from list(self._resumable.values())

    @property
    def unread_answers(self) -> bool:
        """Whether the answer of a POST waits for a client whose connection was cut, and which may resume the stream."""
        return any(log.ended and log.unread for log in self._resumable.values())

    def close(self) -> None:
        """The session is over: end all logs and keep nothing for replay; what a reader still reads is dropped when it leaves.

        The log of a channel is not the session's to end: requests of 2026-07-28 have their answers in it.
        """
        self.budget.closed = True
        for log in (self.standalone, *self._resumable.values()):
            if log.budget is self.budget:
                log.end()
                log.forget = None
                if not log.is_read:
                    log.discard()
        self.budget.release(_STREAM_BYTES * len(self._resumable), 0)
        self._resumable.clear()

    def _abandoned(self) -> int:
        return sum(log.unread_bytes for log in self.all() if not log.is_read)

    def _log(self, expected: int | None = None, *, batched: bool = False) -> EventLog:
        return EventLog(
            self.budget,
            expected=expected,
            batched=batched,
            max_events=self._bounds.events,
            max_bytes=self._bounds.stream_bytes,
        )

    def _reclaim(self) -> None:
        """Drop what is only kept for replay, whole streams first: the session holds too much."""
        enough = self.budget.limit * _RECLAIM_TO
        for name, log in list(self._resumable.items()):
            if self.budget.used <= enough:
                return
            if log.ended and not log.unread:
                self._forget(name)
        for log in self.all():
            if self.budget.exceeded:
                log.forget_read()

    def _forget(self, name: str) -> None:
        self._ended.pop(name, None)
        log = self._resumable.pop(name)
        log.forget = None
        log.discard()
        self.budget.release(_STREAM_BYTES, 0)


def _encode_id(id: RequestId | None) -> str:
    if isinstance(id, int):
        text = f"i{id}".replace("-", "n")
    elif id is not None:
        text = "s" + base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")
    else:
        return ""
    return text if len(text) <= _LONGEST_ENCODED_ID else ""
