"""How messages wait for a reader: bounded, append never blocks, replay is a cursor.

    handler ──append──▶ EventLog ◀──cursor── Reader ──▶ one writer on one wire
                          │
                          └─ keeps what was read for a while: a client that was cut off resumes behind its last id

A handler never waits for a reader here. The bounds are for what a client can miss; beyond them it is dropped, oldest first: what
it has read, log messages (counted), progress and change notices that a later one supersedes. Responses and requests are
never dropped. While somebody reads them they may be as large as the account allows; if nobody does and they alone exceed the
bound, `append` raises `Overflow` and the owner ends the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import trio

from trio_mcp.protocol.errors import SlowReader, StreamError
from trio_mcp.protocol.jsonrpc import encode_notification
from trio_mcp.streams.account import Account

__all__ = ["Answer", "Budget", "Entry", "EventLog", "Kind", "Overflow", "Reader"]

MAX_EVENTS = 1_000
MAX_STREAM_BYTES = 1024 * 1024
MAX_SESSION_BYTES = 4 * 1024 * 1024

_ENTRY_BYTES = 200
"""What an entry weighs besides its message (measured)."""


class Overflow(StreamError):
    """Messages that must not be dropped alone exceed the bound."""


class Kind(Enum):
    """How much a message matters when there is no room for it."""

    VITAL = "vital"
    """A response or a request to the client: never dropped unread."""
    LATEST = "latest"
    """Progress, list_changed, updated: the newest per key says it all."""
    LOG = "log"
    """`notifications/message`: dropped and counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoded JSON-RPC message, numbered from 1 in its stream."""

    n: int
    data: bytes
    kind: Kind = Kind.VITAL
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply that came before anything else was said: it may still go out as plain JSON."""

    body: bytes
    status: int


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Budget:
    """Bytes that the logs of one session, or of one connection, hold together; `account` counts them for the node."""

    limit: int = MAX_SESSION_BYTES
    """For what may be dropped, and for answers while nobody reads them."""
    used: int = 0
    reclaim: Callable[[], None] | None = None
    """Asked once before anything is dropped: frees what is only kept for replay."""
    account: Account = field(default_factory=Account)
    unread: int = 0
    """Of these: responses and requests that no reader has yet."""
    abandoned: Callable[[], int] | None = None
    """How much of `unread` nobody reads; None: all of it."""
    give_up: Callable[[], None] = _nothing
    """Ends the conversation, because nobody reads it and there is no room."""
    unfinished: int = 0
    """Bytes of answers that wait for the rest of their batch; not in `used`."""
    closed: bool = False
    """The conversation is over: what its last readers leave is kept for nobody."""

    def charge(self, size: int, weight: int) -> None:
        """`size` bytes of messages more, which weigh `weight` more than that."""
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

    def hold_back(self, size: int) -> None:
        """An answer of `size` bytes waits for the rest of its batch."""
        self.unfinished += size
        self.account.charge_unfinished(size)

    def let_go(self, size: int) -> None:
        """The batch is complete, or given up."""
        self.unfinished -= size
        self.account.release_unfinished(size)

    @property
    def exceeded(self) -> bool:
        """Whether the logs hold more than they may; answers that are being read do not count."""
        return self.used > self.limit and self.used - self.unread + self.waits_for_nobody() > self.limit

    def waits_for_nobody(self) -> int:
        """Bytes that may not be dropped and that nobody reads."""
        return self.unread if self.abandoned is None else self.abandoned()


@dataclass(slots=True, eq=False)
class Reader:
    """The one who reads a log now; a newer reader, or `close`, ends it."""

    log: EventLog
    cursor: int
    closed: bool = False
    gone: bool = False
    """Its connection has ended."""

    @property
    def waits(self) -> bool:
        """Whether there is nothing to read now, but may be later."""
        return not (self.closed or self.log.ended or self.log.newest > self.cursor)

    def take(self) -> list[Entry]:
        """What comes after the cursor now."""
        if self.closed or self.log.newest <= self.cursor:
            return []
        found = self.log.after(self.cursor)
        self.log.taken(found[-1].n)
        return found

    async def batch(self) -> list[Entry]:
        """What comes after the cursor, at least one entry; empty when there will be no more for this reader."""
        while self.waits:
            await self.log.changed()
        return self.take()

    def ends_with(self, entry: Entry) -> bool:
        """Whether nothing comes behind `entry`, now or later."""
        return self.log.ended and not self.closed and entry.n == self.log.last

    def wrote(self, entry: Entry) -> None:
        """Everything up to `entry` is on the wire."""
        self.cursor = entry.n
        if not self.closed:
            self.log.delivered(entry.n)

    def moved(self) -> None:
        """A part of what was taken is on the wire: the client reads, however slowly."""
        self.log.moved()

    def close(self) -> None:
        """End this reader cleanly; the log lives on."""
        self.closed = True
        self.log.wake()

    def leave(self) -> None:
        """Its connection has ended, whatever it has read."""
        self.gone = True
        self.log.left_by(self)


@dataclass(slots=True, eq=False)
class EventLog:
    """The messages of one stream. `expected` replies end it; None never ends by itself."""

    budget: Budget
    expected: int | None = None
    batched: bool = False
    """The replies answer a JSON-RPC batch: as plain JSON they go out as an array."""
    max_events: int = MAX_EVENTS
    max_bytes: int = MAX_STREAM_BYTES
    replays: bool = True
    """Whether what was read is kept for a client that comes back."""
    forget: Callable[[], None] | None = None
    """Takes the log out of its session, when it has ended and nothing of it is kept."""
    last: int = 0
    ended: bool = False
    reader: Reader | None = None
    moves: int = 0
    """How often a reader made progress."""
    _entries: dict[int, Entry] = field(default_factory=dict)
    _bytes: int = 0
    _unread_bytes: int = 0
    _moved_at: float = 0.0
    _delivered: int = 0
    _latest: dict[Hashable, int] = field(default_factory=dict)
    _taken: int = 0
    _lost_logs: int = 0
    _lost_on_the_way: int = 0
    _held: list[tuple[bytes, int]] = field(default_factory=list)
    _held_bytes: int = 0
    """What the account counts of these: answers to a batch."""
    _streaming: bool = False
    _cut: bool = False
    _change: trio.Event | None = None

    def append(self, data: bytes, kind: Kind = Kind.VITAL, key: Hashable = None) -> None:
        """Never blocks. Raises Overflow when only messages that must not be dropped are left."""
        if self.ended:
            return
        # First, for it may make the account drop what is here already.
        self.budget.charge(len(data), _ENTRY_BYTES)
        self.last += 1
        self._entries[self.last] = Entry(self.last, data, kind, key)
        self._bytes += len(data)
        if kind is Kind.VITAL:
            self._unread_bytes += len(data)
            self.budget.unread += len(data)
            if not self.is_read:
                self.budget.account.waits_for_nobody(self)
        elif not self.is_read:
            self.budget.account.can_spare(self)
        if key is not None:
            self._latest[key] = self.last
        if self._bytes > self.max_bytes or len(self._entries) > self.max_events or self.budget.used > self.budget.limit:
            self._make_room()
        self.wake()

    def finish(self, body: bytes, status: int) -> None:
        """Append a reply; the last expected one ends the log. Raises Overflow as `append` does."""
        if self.ended:
            return
        self._held.append((body, status))
        if self.batched:
            # The first of its answers wait for the last. (A single one goes out at once.)
            self._held_bytes += len(body)
            self.budget.hold_back(len(body))
        try:
            if self.streams:
                self._release_held()
        finally:
            if self.expected is not None:
                self.expected -= 1
                if self.expected <= 0:
                    self.end()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.wake()

    def discard(self) -> None:
        """Give the bytes back; nobody will read this log again."""
        self.end()
        self.budget.account.forget(self)
        self.budget.unread -= self._unread_bytes
        self.budget.release(self._bytes, _ENTRY_BYTES * len(self._entries))
        self._bytes = self._unread_bytes = 0
        self._entries.clear()
        self._held.clear()
        self._uncount_held()

    @property
    def is_read(self) -> bool:
        """Whether somebody reads it now."""
        return self.reader is not None and not (self.reader.closed or self.reader.gone)

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses and requests that no reader has yet."""
        return self._unread_bytes

    @property
    def waiting_bytes(self) -> int:
        """The same, with what the entries weigh that wait for a reader."""
        return self._unread_bytes + _ENTRY_BYTES * self.unread

    @property
    def newest(self) -> int:
        """The number of the newest entry that is kept; what was refused for want of room has none."""
        return next(reversed(self._entries), 0)

    @property
    def streams(self) -> bool:
        """Whether a stream has to carry it: something came before the reply, or somebody asked for one."""
        return self.last > 0 or self._streaming

    def answer(self) -> Answer | None:
        """The whole reply, while it may still go out as plain JSON."""
        if not self.ended or self.last or not self._held:
            return None
        if self.batched:
            return Answer(b"[" + b",".join(body for body, _ in self._held) + b"]", 200)
        return Answer(*self._held[0])

    def open_reader(self, after: int | None = None) -> Reader:
        """A reader behind event `after`, or behind what was delivered; it takes the place of any other."""
        if self.reader is not None:
            self.reader.close()
        self._streaming = True
        self._lost_logs += self._lost_on_the_way
        self._taken = self._lost_on_the_way = 0
        self.reader = Reader(self, self._delivered if after is None else after, closed=self._cut)
        self._cut = False
        if self.is_read:
            self.budget.account.has_reader(self)
        self._release_held()
        return self.reader

    def close_reader(self) -> None:
        """End whoever reads now, or the first who will; the log lives on for the next."""
        if self.reader is not None:
            self.reader.close()
        else:
            self._cut = self._streaming = True
            self.wake()

    def after(self, cursor: int) -> list[Entry]:
        """The kept entries behind `cursor`; a gap continues at the oldest kept one."""
        if self.last - cursor <= len(self._entries):
            found = [entry for n in range(cursor + 1, self.last + 1) if (entry := self._entries.get(n))]
        else:
            found = [entry for entry in self._entries.values() if entry.n > cursor]
        return self._with_loss_told(cursor, found)

    async def changed(self) -> None:
        """Wait for the next append, end or reader change."""
        if self._change is None:
            self._change = trio.Event()
        await self._change.wait()

    async def ended_by(self, deadline: float) -> None:
        """Wait until the log has ended, `deadline` (trio clock) at the latest."""
        if not self.ended and deadline > trio.current_time():
            with trio.move_on_at(deadline):
                while not self.ended:
                    await self.changed()

    def wake(self) -> None:
        """Let everybody who waits in `changed` look again."""
        if self._change is not None:
            self._change.set()
            self._change = None

    def taken(self, n: int) -> None:
        """A reader is writing everything up to `n`: what is dropped of it meanwhile is lost only if that reader is."""
        self._taken = n

    def delivered(self, n: int) -> None:
        """Everything up to `n` reached a reader: it may now be dropped, and whoever flushes goes on."""
        if n > self._delivered:
            self._count_read(self._delivered, n)
            self._delivered = n
            if not self.replays:
                self.forget_read()
            elif self._entries:
                self.budget.account.can_spare(self)
        if n >= self._taken:
            self._lost_on_the_way = 0
        self.moved()

    def moved(self) -> None:
        """The reader makes progress: whoever flushes waits on."""
        self._moved_at = trio.current_time()
        self.moves += 1
        self.wake()

    def left_by(self, reader: Reader) -> None:
        """`reader` reads no more. What it has not read waits for the next, if the conversation goes on."""
        if reader is not self.reader:
            return
        if self.budget.closed:
            self.discard()
        elif self._entries:
            self.budget.account.can_spare(self)
            if self._unread_bytes:
                self.budget.account.waits_for_nobody(self)

    def forget_read(self) -> None:
        """Give back what is only kept for replay."""
        for entry in list(self._entries.values()):
            if entry.n <= self._delivered:
                self._drop(entry)

    def evict(self) -> None:
        """Give back what is only kept for replay, and the log itself if that was all; what may be missed while nobody reads."""
        if not self.is_read:
            for entry in list(self._entries.values()):
                if self._missable(entry):
                    self._drop(entry)
        if self.ended and not self.unread and not self.is_read and self.forget is not None:
            self.forget()
        else:
            self.forget_read()

    def give_up(self) -> None:
        """End the conversation: nobody reads this, and there is no room for it."""
        self.budget.give_up()

    async def flushed(self, patience: float) -> None:
        """Wait until a reader has what was appended so far; raises SlowReader when it reads nothing for `patience` seconds."""
        target = self.newest
        since = trio.current_time()
        while self._delivered < target and not self.ended:
            with trio.move_on_at(max(since, self._moved_at) + patience):
                await self.changed()
                continue
            if trio.current_time() >= max(since, self._moved_at) + patience:
                raise SlowReader(f"The client read nothing for {patience:g} s")

    @property
    def unread(self) -> int:
        """How many events at most wait for a reader."""
        return max(0, self.newest - self._delivered)

    def _release_held(self) -> None:
        held, self._held = self._held, []
        self._uncount_held()
        for body, _ in held:
            self._append_reply(body)

    def _uncount_held(self) -> None:
        if self._held_bytes:
            self.budget.let_go(self._held_bytes)
            self._held_bytes = 0

    def _append_reply(self, body: bytes) -> None:
        ended, self.ended = self.ended, False
        try:
            self.append(body)
        finally:
            self.ended = ended

    def _with_loss_told(self, cursor: int, found: list[Entry]) -> list[Entry]:
        gap = _first_gap(max(cursor, self._delivered), found) if self._lost_logs else None
        if gap is None:
            return found
        text = f"{self._lost_logs} log messages were dropped: they came faster than they were read"
        params = {"level": "warning", "logger": "trio_mcp", "data": text}
        self._lost_logs = 0
        notice = encode_notification("notifications/message", params)
        # It takes the number of a message that was lost, so event ids stay unique and only grow.
        return [*found[:gap], Entry(found[gap].n - 1, notice, Kind.LOG), *found[gap:]]

    def _count_read(self, before: int, n: int) -> None:
        for number in range(before + 1, n + 1):
            entry = self._entries.get(number)
            if entry is not None and entry.kind is Kind.VITAL:
                self._unread_bytes -= len(entry.data)
                self.budget.unread -= len(entry.data)

    def _make_room(self) -> None:
        if self.budget.exceeded and self.budget.reclaim is not None:
            self.budget.reclaim()
        self._drop_while_full()
        if self._overflowing:
            self._refuse_newest()

    def _drop_while_full(self) -> None:
        for droppable in (self._superseded, self._missable):
            for entry in list(self._entries.values()):
                if not self._full:
                    return
                if entry.n != self.last and droppable(entry):
                    self._drop(entry)

    def _refuse_newest(self) -> None:
        newest = self._entries[self.last]
        if newest.kind is Kind.VITAL:
            raise Overflow("More responses and requests wait than the stream may hold, and nobody reads them")
        self._drop(newest)

    @property
    def _full(self) -> bool:
        being_read = self._unread_bytes if self.is_read else 0
        return self._bytes - being_read > self.max_bytes or len(self._entries) > self.max_events or self.budget.exceeded

    @property
    def _overflowing(self) -> bool:
        # The newest does not count: a single large message is taken whatever its size.
        entry = self._entries[self.last]
        newest = len(entry.data)
        if self.is_read:
            missable = self._bytes - self._unread_bytes - newest
            return entry.kind is not Kind.VITAL and (missable > self.max_bytes or len(self._entries) > self.max_events)
        return (
            self._bytes - newest > self.max_bytes
            or len(self._entries) > self.max_events
            or self.budget.waits_for_nobody() - newest > self.budget.limit
        )

    def _superseded(self, entry: Entry) -> bool:
        if entry.n <= self._delivered or entry.kind is Kind.LOG:
            return True
        return entry.kind is Kind.LATEST and self._latest.get(entry.key) != entry.n

    def _missable(self, entry: Entry) -> bool:
        return entry.kind is not Kind.VITAL

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.n]
        self._bytes -= len(entry.data)
        self.budget.release(len(entry.data), _ENTRY_BYTES)
        if entry.kind is Kind.VITAL and entry.n > self._delivered:
            self._unread_bytes -= len(entry.data)
            self.budget.unread -= len(entry.data)
        if self._latest.get(entry.key) == entry.n:
            del self._latest[entry.key]
        if entry.kind is Kind.LOG and entry.n > self._delivered:
            if entry.n > self._taken:
                self._lost_logs += 1
            else:
                self._lost_on_the_way += 1


def _first_gap(cursor: int, found: list[Entry]) -> int | None:
    for index, entry in enumerate(found):
        if entry.n > cursor + 1:
            return index
        cursor = max(cursor, entry.n)
    return None
