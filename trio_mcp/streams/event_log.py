"""One stream of messages, between the handlers that send and the exchange that reads: append never blocks, replay is a cursor.

    handler ──append──▶ EventLog ◀──cursor── Reader ──▶ one writer on one wire
                          │
                          └─ Backlog: keeps what was read for a while, so a client that was cut off resumes behind its last id

The first replies of a stream wait beside it until somebody opens a reader: without one they may go out as plain JSON.
A handler never waits for a reader here, unless it asks to (`flushed`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import msgspec
import trio

from trio_mcp.protocol.errors import SlowReader
from trio_mcp.streams.account import SMALL
from trio_mcp.streams.backlog import Backlog, Entry, Kind
from trio_mcp.streams.budget import DEFAULT_BOUNDS, Budget

__all__ = ["Answer", "EventLog", "Reader"]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole reply that came before anything else was sent: it may still go out as plain JSON."""

    body: bytes
    status: int
    """The HTTP status."""


class Reader(msgspec.Struct, eq=False):
    """Reads a log for one exchange. A newer reader of the same log ends it, and so does `close`."""

    log: EventLog
    backlog: Backlog
    """The log's backlog."""
    cursor: int
    closed: bool = False
    gone: bool = False
    """Its connection has ended."""

    @property
    def waits(self) -> bool:
        """Whether there is nothing to read now, but may be later."""
        return not (self.closed or self.log.ended or self.backlog.newest > self.cursor)

    def take(self) -> list[Entry]:
        """What comes after the cursor now."""
        backlog = self.backlog
        if self.closed or backlog.newest <= self.cursor:
            return []
        found = backlog.after(self.cursor)
        backlog.mark_taken(found[-1].n)
        return found

    async def batch(self) -> list[Entry]:
        """What comes after the cursor, at least one entry; empty when there will be no more for this reader."""
        while self.waits:
            await self.log.changed()
        return self.take()

    def ends_with(self, entry: Entry) -> bool:
        """Whether nothing comes behind `entry`, now or later."""
        return self.log.ended and not self.closed and entry.n == self.backlog.last

    def wrote(self, entry: Entry) -> None:
        """Everything up to `entry` is on the wire."""
        self.cursor = entry.n
        if not self.closed:
            self.log.mark_delivered(entry.n)

    def moved(self) -> None:
        """A part of what was taken is on the wire: the client reads, however slowly."""
        self.log.moved()

    def close(self) -> None:
        """End this reader cleanly; the log stays open for the next."""
        self.closed = True
        self.log.wake()

    def leave(self) -> None:
        """Its connection has ended, whatever it has read."""
        self.gone = True
        self.log.reader_left(self)


class EventLog(msgspec.Struct, eq=False):
    """The messages of one stream."""

    budget: Budget
    expected: int | None = None
    """How many replies end it; None: it does not end by itself."""
    batched: bool = False
    """The replies answer a JSON-RPC batch, and go out as an array where they go out as plain JSON."""
    max_events: int = DEFAULT_BOUNDS.events
    max_bytes: int = DEFAULT_BOUNDS.stream_bytes
    replays: bool = True
    """Whether what was read is kept for a client that comes back."""
    ended: bool = False
    reader: Reader | None = None
    asked: tuple[Any, ...] = ()
    """What the token of whoever reads it again must have, as the token of its request had."""
    moves: int = 0
    """How often a reader made progress."""
    forget: Callable[[], None] | None = None
    """Takes the log out of its session, when it has ended and nothing of it is kept."""
    _backlog: Backlog | None = None
    """Made when something is to be kept: most replies go out as plain JSON, and need none."""
    _replies: list[tuple[bytes, int]] = []
    """Those that came before anybody read, with their HTTP status."""
    _replies_bytes: int = 0
    """What the account counts of them: answers to a batch, and large ones."""
    _overdue: bool = False
    _streaming: bool = False
    """Somebody asked for a stream."""
    _cut: bool = False
    """The first reader is to be ended at once."""
    _change: trio.Event | None = None
    _moved_at: float = 0.0
    """When a reader last made progress (trio clock)."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "read" if self.is_read else "unread"
        return f"<EventLog {state}, {self.last} events, {self.unread} unread>"

    def append(self, data: bytes, kind: Kind = Kind.VITAL, key: Hashable = None) -> None:
        """Never blocks. An unread message with the same `key` is replaced (None: none). Raises Overflow when nothing is left to drop."""
        if self.ended:
            return
        backlog = self.backlog
        backlog.add(data, kind, key)
        if not self.is_read:
            account = self.budget.account
            if kind is Kind.VITAL:
                account.add_abandoned(self)
            else:
                account.add_evictable(self)
        if backlog.is_full:
            backlog.make_room(is_read=self.is_read)
        self.wake()

    def finish(self, body: bytes, status: int) -> None:
        """Append a reply; the last expected one ends the log. Raises Overflow as `append` does."""
        if self.ended:
            return
        self._replies.append((body, status))
        if self.batched or len(body) > SMALL:
            # The first of a batch wait for the last. A single one goes out at once, but not before other calls that end now have ended.
            self._replies_bytes += len(body)
            self.budget.add_unfinished(len(body))
        try:
            if self.streams:
                self._append_replies()
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
        if self._backlog is not None:
            self._backlog.clear()
        self._replies.clear()
        self._release_replies()

    @property
    def backlog(self) -> Backlog:
        """What is kept of it."""
        if self._backlog is None:
            self._backlog = Backlog(self.budget, self.max_events, self.max_bytes)
        return self._backlog

    @property
    def is_read(self) -> bool:
        """Whether somebody reads it now."""
        reader = self.reader
        return reader is not None and not (reader.closed or reader.gone)

    @property
    def last(self) -> int:
        """The number of the newest event, kept or not."""
        return 0 if self._backlog is None else self._backlog.last

    @property
    def newest(self) -> int:
        """The number of the newest event that is kept; one that was refused for want of room has none."""
        return 0 if self._backlog is None else self._backlog.newest

    @property
    def unread(self) -> int:
        """How many events at most wait for a reader."""
        return 0 if self._backlog is None else self._backlog.unread

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses and requests that no reader has yet."""
        return 0 if self._backlog is None else self._backlog.unread_bytes

    @property
    def waiting_bytes(self) -> int:
        """The same, with what the entries weigh that wait for a reader."""
        return 0 if self._backlog is None else self._backlog.waiting_bytes

    @property
    def streams(self) -> bool:
        """Whether a stream has to carry it: something came before the reply, or somebody asked for one."""
        return self._streaming or self.last > 0

    def answer(self) -> Answer | None:
        """The whole reply, while it may still go out as plain JSON."""
        if not self.ended or self.last or not self._replies:
            return None
        if self.batched:
            return Answer(b"[" + b",".join(body for body, _ in self._replies) + b"]", 200)
        return Answer(*self._replies[0])

    @property
    def holds_replies(self) -> bool:
        """Whether the account counts replies that nobody reads yet; `discard` ends that."""
        return self._replies_bytes > 0

    def open_reader(self, after: int | None = None) -> Reader:
        """A reader behind event `after`, or behind what was delivered; it takes the place of any other.

        Raises Overflow when the replies that were kept until now exceed the bounds.
        """
        if self.reader is not None:
            self.reader.close()
        self._streaming = True
        backlog = self.backlog
        backlog.begin_reading()
        self.reader = Reader(self, backlog, backlog.delivered if after is None else after, closed=self._cut)
        self._cut = False
        if self.is_read:
            self.budget.account.remove_abandoned(self)
        self._append_replies()
        return self.reader

    def close_reader(self) -> None:
        """End the reader, or the first one that comes; the log stays open for the next."""
        if self.reader is not None:
            self.reader.close()
        else:
            self._cut = self._streaming = True
            self.wake()

    def after(self, cursor: int) -> list[Entry]:
        """The kept entries behind `cursor`; a gap continues at the oldest kept one."""
        return self.backlog.after(cursor)

    async def changed(self) -> None:
        """Wait for the next append, end or reader change."""
        await self._next_change().wait()

    def _next_change(self) -> trio.Event:
        if self._change is None:
            self._change = trio.Event()
        return self._change

    def stop_holding_back(self) -> None:
        """The head of the response was held back for as long as it may be: `wait_for_form` returns."""
        self._overdue = True
        self.wake()

    async def wait_for_form(self) -> None:
        """Wait until it is known how the response begins: with the whole `answer`, or, if there is none, as a stream."""
        while not (self.ended or self._overdue or self.streams):
            await self._next_change().wait()

    async def ended_by(self, deadline: float) -> None:
        """Wait until the log has ended, `deadline` (trio clock) at the latest."""
        if not self.ended and deadline > trio.current_time():
            with trio.move_on_at(deadline):
                while not self.ended:
                    await self.changed()

    async def flushed(self, write_timeout: float) -> None:
        """Wait until a reader has what was appended so far; raises SlowReader when it reads nothing for `write_timeout` seconds."""
        target = self.newest
        since = trio.current_time()
        while self.backlog.delivered < target and not self.ended:
            with trio.move_on_at(max(since, self._moved_at) + write_timeout) as wait:
                await self.changed()
            # It may have read something since that deadline was set.
            if wait.cancelled_caught and trio.current_time() >= max(since, self._moved_at) + write_timeout:
                raise SlowReader(f"The client read nothing for {write_timeout:g} s")

    def wake(self) -> None:
        """Wake the tasks that wait in `changed`."""
        if self._change is not None:
            self._change.set()
            self._change = None

    # Called by its reader.

    def mark_delivered(self, n: int) -> None:
        """Everything up to `n` reached a reader: it may now be dropped, and `flushed` may return."""
        backlog = self.backlog
        if backlog.mark_delivered(n):
            if not self.replays:
                backlog.drop_delivered()
            elif backlog:
                self.budget.account.add_evictable(self)
        self.moved()

    def moved(self) -> None:
        """The reader makes progress: `flushed` waits on."""
        self._moved_at = trio.current_time()
        self.moves += 1
        self.wake()

    def reader_left(self, reader: Reader) -> None:
        """`reader` reads no more. What it has not read waits for the next, if the conversation goes on."""
        if reader is not self.reader:
            return
        if self.budget.closed:
            self.discard()
        elif self.backlog:
            self.budget.account.add_evictable(self)
            if self.unread_bytes:
                self.budget.account.add_abandoned(self)

    # Called by the account: the port `Kept`.

    def forget_read(self) -> None:
        """Give back what is only kept for replay."""
        self.backlog.drop_delivered()

    def evict(self) -> None:
        """Give back what is only kept for replay, and the log itself if that was all; what may be missed while nobody reads."""
        if not self.is_read:
            self.backlog.drop_missable()
        if self.ended and not self.unread and not self.is_read and self.forget is not None:
            self.forget()
        else:
            self.backlog.drop_delivered()

    def give_up(self) -> None:
        """End the conversation: nobody reads this, and there is no room for it."""
        self.budget.give_up()

    def _append_replies(self) -> None:
        replies, self._replies = self._replies, []
        self._release_replies()
        for body, _ in replies:
            self._append_reply(body)

    def _release_replies(self) -> None:
        if self._replies_bytes:
            self.budget.remove_unfinished(self._replies_bytes)
            self._replies_bytes = 0

    def _append_reply(self, body: bytes) -> None:
        ended, self.ended = self.ended, False
        try:
            self.append(body)
        finally:
            self.ended = ended
