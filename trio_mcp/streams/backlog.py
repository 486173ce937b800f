"""Which messages of a stream are kept, and which go first when there are too many.

The bounds are for what a client can miss. Beyond them messages go, oldest first: what was delivered, log messages (counted, so
that the client can be notified), progress and change notices that a later one supersedes; then whatever else can be missed. Responses
and requests are never dropped. While somebody reads them they may be as large as the account allows; if nobody does and they
alone exceed the bound, `make_room` raises `Overflow` and the owner ends the conversation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain

from trio_mcp.protocol.errors import StreamError
from trio_mcp.protocol.jsonrpc import encode_notification
from trio_mcp.streams.budget import DEFAULT_BOUNDS, Budget

__all__ = ["Backlog", "Entry", "Kind", "Overflow"]

ENTRY_BYTES = 200
"""What an entry weighs besides its message (measured)."""


class Overflow(StreamError):
    """Messages that must not be dropped alone exceed the bound."""


class Kind(Enum):
    """How much a message matters when there is no room for it."""

    VITAL = "vital"
    """A response or a request to the client: never dropped unread."""
    LATEST = "latest"
    """Progress and change notices: the newest for its key replaces those before."""
    LOG = "log"
    """`notifications/message`: dropped and counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoded JSON-RPC message, numbered from 1 in its stream."""

    n: int
    data: bytes
    kind: Kind = Kind.VITAL
    key: Hashable = None


@dataclass(slots=True, eq=False)
class Backlog:
    """The messages of one stream that wait for a reader or are kept for replay."""

    budget: Budget
    max_events: int = DEFAULT_BOUNDS.events
    max_bytes: int = DEFAULT_BOUNDS.stream_bytes
    last: int = 0
    """The number of the newest message, kept or not."""
    delivered: int = 0
    """A reader has everything up to this number."""
    unread_bytes: int = 0
    """The size of the responses and requests behind it, which no reader has."""
    _given_back: int = 0
    """Nothing up to this number is kept any more: with many that wait, a look at all of them for each that is read would be dear."""
    _skimmed: int = 0
    """Up to this number nothing that no reader has is superseded, but for `_outdated`."""
    _outdated: deque[int] | None = None
    """What was superseded up to there since it was looked at; None: nothing was yet, as in most streams."""
    _all_vital: int = 0
    """Up to this number all that no reader has are responses and requests."""
    _entries: dict[int, Entry] = field(default_factory=dict)
    _bytes: int = 0
    _latest: dict[Hashable, int] = field(default_factory=dict)
    _taken: int = 0
    """Up to here the reader writes now, or has written."""
    _lost_logs: int = 0
    """Log messages that were dropped, and of which no reader was notified."""
    _lost_in_transit: int = 0
    """Log messages that were dropped while the reader wrote them: lost only if its connection is."""

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._entries)

    @property
    def newest(self) -> int:
        """The number of the newest message that is kept; one that was refused for want of room has none."""
        return next(reversed(self._entries), 0)

    @property
    def unread(self) -> int:
        """How many messages at most wait for a reader."""
        return max(0, self.newest - self.delivered)

    @property
    def waiting_bytes(self) -> int:
        """`unread_bytes`, and what the entries weigh that wait for a reader."""
        return self.unread_bytes + ENTRY_BYTES * self.unread

    def add(self, data: bytes, kind: Kind, key: Hashable) -> None:
        """Keep one message more; when `is_full` then, `make_room` must follow."""
        # First, for it may make the account drop what is here already.
        self.budget.charge(len(data), ENTRY_BYTES)
        self.last += 1
        self._entries[self.last] = Entry(self.last, data, kind, key)
        self._bytes += len(data)
        if kind is Kind.VITAL:
            self.unread_bytes += len(data)
            self.budget.unread += len(data)
        if key is not None:
            before = self._latest.get(key)
            if before is not None and before <= self._skimmed:
                self._outdated = self._outdated or deque()
                self._outdated.append(before)
            self._latest[key] = self.last

    def after(self, cursor: int) -> list[Entry]:
        """The kept messages behind `cursor`; a gap continues at the oldest kept one."""
        if self.last - cursor <= len(self._entries):
            found = [entry for n in range(cursor + 1, self.last + 1) if (entry := self._entries.get(n))]
        else:
            found = [entry for entry in self._entries.values() if entry.n > cursor]
        return self._with_notice_of_loss(cursor, found)

    def begin_reading(self) -> None:
        """A reader comes: what the last one had on the way is lost."""
        self._lost_logs += self._lost_in_transit
        self._taken = self._lost_in_transit = 0

    def mark_taken(self, n: int) -> None:
        """The reader is writing everything up to `n`."""
        self._taken = n

    def mark_delivered(self, n: int) -> bool:
        """A reader has everything up to `n`; False when that is nothing new."""
        if n >= self._taken:
            self._lost_in_transit = 0
        if n <= self.delivered:
            return False
        for number in range(self.delivered + 1, n + 1):
            entry = self._entries.get(number)
            if entry is not None and entry.kind is Kind.VITAL:
                self._count_as_read(entry)
        self.delivered = n
        return True

    def drop_delivered(self) -> None:
        """Give back what is only kept for replay."""
        for entry in self._delivered():
            self._drop(entry)

    def drop_missable(self) -> None:
        """Give back everything that no reader has but responses and requests."""
        for entry in self._missable(self.last):
            self._drop(entry)

    def clear(self) -> None:
        """Give everything back."""
        self.budget.unread -= self.unread_bytes
        self.budget.release(self._bytes, ENTRY_BYTES * len(self._entries))
        self._bytes = self.unread_bytes = 0
        self._entries.clear()
        self._outdated = None

    @property
    def is_full(self) -> bool:
        """Whether there may be more than the bounds allow: a quick look, after each message."""
        budget = self.budget
        return self._bytes > self.max_bytes or len(self._entries) > self.max_events or budget.used > budget.limit

    def make_room(self, *, is_read: bool) -> None:
        """Drop what may go until the bounds are kept; raises Overflow. `is_read`: somebody reads the stream now."""
        if self.budget.exceeded and self.budget.reclaim is not None:
            self.budget.reclaim()
        self._drop_while_full(is_read)
        if self._overflows(is_read):
            self._refuse_newest()

    def _drop_while_full(self, is_read: bool) -> None:
        may_go = chain(self._delivered(), self._superseded(), self._missable(self.last - 1))
        while self._exceeds(is_read) and (entry := next(may_go, None)) is not None:
            self._drop(entry)

    # What may go. Each message is looked at once: one for each that comes, however many are kept. What is taken here must be dropped.

    def _delivered(self) -> Iterator[Entry]:
        while self._given_back < self.delivered:
            self._given_back += 1
            entry = self._entries.get(self._given_back)
            if entry is not None:
                yield entry

    def _superseded(self) -> Iterator[Entry]:
        while self._outdated:
            entry = self._entries.get(self._outdated.popleft())
            if entry is not None:
                yield entry
        for number in range(max(self._skimmed, self.delivered) + 1, self.last):
            self._skimmed = number
            entry = self._entries.get(number)
            if entry is not None and self._is_superseded(entry):
                yield entry

    def _missable(self, newest: int) -> Iterator[Entry]:
        for number in range(max(self._all_vital, self.delivered) + 1, newest + 1):
            self._all_vital = number
            entry = self._entries.get(number)
            if entry is not None and entry.kind is not Kind.VITAL:
                yield entry

    def _refuse_newest(self) -> None:
        newest = self._entries[self.last]
        if newest.kind is Kind.VITAL:
            raise Overflow("More responses and requests wait than the stream may hold, and nobody reads them")
        self._drop(newest)

    def _exceeds(self, is_read: bool) -> bool:
        being_read = self.unread_bytes if is_read else 0
        return self._bytes - being_read > self.max_bytes or len(self._entries) > self.max_events or self.budget.exceeded

    def _overflows(self, is_read: bool) -> bool:
        # The newest does not count: a single large message is taken whatever its size.
        entry = self._entries[self.last]
        newest = len(entry.data)
        if is_read:
            missable = self._bytes - self.unread_bytes - newest
            return entry.kind is not Kind.VITAL and (missable > self.max_bytes or len(self._entries) > self.max_events)
        return (
            self._bytes - newest > self.max_bytes
            or len(self._entries) > self.max_events
            or self.budget.abandoned_bytes() - newest > self.budget.limit
        )

    def _is_superseded(self, entry: Entry) -> bool:
        return entry.kind is Kind.LOG or (entry.kind is Kind.LATEST and self._latest.get(entry.key) != entry.n)

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.n]
        self._bytes -= len(entry.data)
        self.budget.release(len(entry.data), ENTRY_BYTES)
        if entry.kind is Kind.VITAL and entry.n > self.delivered:
            self._count_as_read(entry)
        if self._latest.get(entry.key) == entry.n:
            del self._latest[entry.key]
        if entry.kind is Kind.LOG and entry.n > self.delivered:
            if entry.n > self._taken:
                self._lost_logs += 1
            else:
                self._lost_in_transit += 1

    def _count_as_read(self, entry: Entry) -> None:
        self.unread_bytes -= len(entry.data)
        self.budget.unread -= len(entry.data)

    def _with_notice_of_loss(self, cursor: int, found: list[Entry]) -> list[Entry]:
        gap = _first_gap(max(cursor, self.delivered), found) if self._lost_logs else None
        if gap is None:
            return found
        text = f"{self._lost_logs} log messages were dropped: they came faster than they were read"
        params = {"level": "warning", "logger": "trio_mcp", "data": text}
        self._lost_logs = 0
        notice = encode_notification("notifications/message", params)
        # It takes the number of a message that was lost, so event ids stay unique and only grow.
        return [*found[:gap], Entry(found[gap].n - 1, notice, Kind.LOG), *found[gap:]]


def _first_gap(cursor: int, found: list[Entry]) -> int | None:
    for index, entry in enumerate(found):
        if entry.n > cursor + 1:
            return index
        cursor = max(cursor, entry.n)
    return None
