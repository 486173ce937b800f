"""How many bytes wait in the memory of one node, and what waits or is dropped when they are too many.

    event logs ── kept for replay, unread ──┐
    listener ──── written, not yet taken ───┼──▶ Account ──▶ over the limit:
    endpoint ──── bodies on their way ──────┤      1. replays go, those delivered longest ago first (at once)
    stdio ─────── requests not yet begun ───┘      2. calls wait before they start, bodies wait unread
                                                   3. `relief.decide`: slow connections are cut, then what nobody reads goes

Charging never blocks and never fails, for the bytes are there already. Only a call or a body that is about to begin waits, in
`wait_to_start_call` and `room_for_body`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Protocol

import trio

from trio_mcp.defaults import MAX_KEPT_BYTES
from trio_mcp.observability.logs import event
from trio_mcp.streams.bodies import Bodies
from trio_mcp.streams.relief import AMPLE, Abandoned, View, decide
from trio_mcp.streams.transfers import Transfer, Transfers

__all__ = ["SMALL", "Account", "Holder", "Kept", "NoRoom"]

logger: logging.Logger = logging.getLogger("trio_mcp.memory")

SMALL = 16 * 1024
"""Bytes. Bodies and answers up to this size are not counted while they are on their way: a connection weighs more."""

CALL_WAIT_SECONDS = 60.0
"""How long a call waits for room: most clients wait as long for an answer."""

BODY_WAIT_SECONDS = 30.0
"""How long a body waits unread. Less than a call: its client, or a proxy, can still send it to another node."""

HARD = 2
"""Calls that already run may answer until the node holds HARD x `limit`, or their session HARD x `share`."""

TICK_SECONDS = 0.25
"""From one look at a node that is short of room to the next, when nothing else wakes it."""

LOG_LINE_SECONDS = 10.0
"""From one log line about a shortage to the next: a node at its limit crosses it many times a second."""

_LATELY = 0.2
"""The weight of the newest answer in the running mean of their sizes."""


class NoRoom(Exception):
    """There was no room for as long as a call or a body may wait."""


class Kept(Protocol):
    """Messages that were delivered and are kept for replay, or wait for a reader: an event log."""

    def evict(self) -> None:
        """Drop what was delivered, and, while nobody reads, what a client can miss."""

    def give_up(self) -> None:
        """End the session it belongs to: nobody reads it."""

    @property
    def unread_bytes(self) -> int:
        """Bytes that were not delivered and must not be dropped."""


class Holder(Protocol):
    """A session or a connection, which holds a part of the account."""

    @property
    def unread(self) -> int:
        """Bytes of answers that wait for their reader."""

    @property
    def unfinished(self) -> int:
        """Bytes of answers that wait for the rest of their batch; a client that reads faster would not get them sooner."""


class Account:
    """Counts the bytes that wait, and makes room when they exceed `limit`. One holder may have `share`, a quarter of it.

    It belongs to one event loop; all servers in that loop may share one.
    """

    def __init__(self, limit: int = MAX_KEPT_BYTES) -> None:
        self.limit = limit
        self.share: int = limit // 4
        self.used: int = 0
        self.short: bool = False
        """New calls have to wait: there is no room, or others wait already."""
        self._count: Callable[[str], None] | None = None
        self._evictable: dict[Kept, None] = {}
        self._abandoned: dict[Kept, float | None] = {}
        self._transfers = Transfers()
        self._calls: dict[trio.Event, None] = {}
        self._bodies = Bodies(self.share)
        self._requests = 0
        """The part of `used` that is bodies of requests that are complete. Only a call that runs to its end gives its own back."""
        self._unfinished = 0
        """The part of `used` that is answers which wait for the rest of their batch. Only the calls of that batch give them back."""
        self._typical = 0.0
        self._relieving = False
        self._reliever = trio.Lock()
        self._next_look = 0.0
        self._cut_at_once = 1
        self._logged_at = -math.inf
        self._woken = trio.Event()

    def report_to(self, counter: Callable[[str], None]) -> None:
        """Call `counter` with the name of each measure taken for want of room. Only the first counter that is given counts."""
        self._count = self._count or counter

    def count(self, what: str) -> None:
        """Count a measure taken for want of room; `what` is its name in the metric `trio_mcp_relief_total`."""
        if self._count is not None:
            self._count(what)

    # Bytes that are there.

    def charge(self, count: int) -> None:
        """`count` bytes more wait. Over the limit, replays are evicted at once."""
        self.used += count
        if self.used > self.limit:
            self._evict(self.limit)
            if self.used > self.limit:
                self.short = self.short or self._calls_must_wait
                self._begin_relief()

    def release(self, count: int) -> None:
        """`count` bytes less."""
        self.used -= count
        if self._relieving:
            self._woken.set()

    def charge_request(self, count: int) -> None:
        """A request's body of `count` bytes is complete. It makes no call wait, for only a call that runs to its end releases it."""
        self._requests += count
        self.charge(count)

    def release_request(self, count: int) -> None:
        """The call of such a body has run."""
        self._requests -= count
        self.release(count)

    def charge_unfinished(self, count: int) -> None:
        """An answer of `count` bytes waits for the rest of its batch. It makes no call wait: the batch's own may be among them."""
        self._unfinished += count
        self.charge(count)

    def release_unfinished(self, count: int) -> None:
        """The batch of such an answer is complete."""
        self._unfinished -= count
        self.release(count)

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Count `count` bytes for the length of the block."""
        self.charge(count)
        try:
            yield
        finally:
            self.release(count)

    def add_evictable(self, kept: Kept) -> None:
        """A part of `kept` can be dropped: it was read just now, or can be missed and has no reader. It goes after all others."""
        self._evictable.pop(kept, None)
        self._evictable[kept] = None
        if self._relieving:
            self._woken.set()

    def add_abandoned(self, kept: Kept) -> None:
        """A part of `kept` must not be dropped, and has no reader."""
        self._abandoned.setdefault(kept, None)

    def remove_abandoned(self, kept: Kept) -> None:
        """`kept` has a reader now."""
        self._abandoned.pop(kept, None)

    def forget(self, kept: Kept) -> None:
        """Nothing is left of `kept`."""
        self._evictable.pop(kept, None)
        self._abandoned.pop(kept, None)

    @contextmanager
    def transfer(self, held: int, *, body: bool = False) -> Iterator[Transfer]:
        """Count `held` bytes for the block, which waits for a client, and is cancelled when that client is given up for want of room.

        `body`: the client sends these bytes, and does not take them.
        """
        with self.hold(held), self._transfers.of(held, body=body) as transfer:
            yield transfer

    # Answers, calls and bodies that come.

    def has_room_for_answer(self, size: int, holder: Holder | None) -> bool:
        """Whether an answer of `size` bytes may wait for its reader. One answer may have a quarter of the limit at most."""
        self._typical += _LATELY * (size - self._typical)
        held = 0 if holder is None else holder.unread + holder.unfinished
        # Bodies of requests beyond the limit do not count here: if no call could be answered, none of them would be released.
        used = self.used - max(0, self._requests - self.limit)
        return size <= self.share and held + size <= HARD * self.share and used + size <= HARD * self.limit

    def may_start_call(self, holder: Holder | None) -> bool:
        """Whether a new call may start now."""
        return not self.short and (holder is None or holder.unread < self.share)

    async def wait_to_start_call(self, holder: Holder | None) -> None:
        """Wait until a new call may start, in the order of arrival; raises NoRoom after CALL_WAIT_SECONDS."""
        self.count("call_waited")
        with trio.move_on_after(CALL_WAIT_SECONDS):
            # Not in line: a client that reads too little of what it asked for must not make others wait.
            while holder is not None and holder.unread >= self.share:  # noqa: ASYNC110
                await trio.sleep(TICK_SECONDS)
            if self.short:
                await self._wait_in_line()
            return
        raise NoRoom

    async def _wait_in_line(self) -> None:
        turn = trio.Event()
        self._calls[turn] = None
        self._woken.set()
        try:
            await turn.wait()
        finally:
            self._calls.pop(turn, None)

    @contextmanager
    def receiving(self, size: int, received: int = 0) -> Iterator[Transfer]:
        """A body of `size` bytes is received for the length of the block, which is cancelled when it has to make way.

        `received` of them are here already.
        """
        with self._bodies.receiving(size), self.transfer(size, body=True) as transfer:
            transfer.progress(received)
            if self._bodies:
                # The next may have room beside it. (When this one ends, `release` wakes.)
                self._woken.set()
            yield transfer

    async def room_for_body(self, size: int, received: int = 0) -> None:
        """Wait until a body of `size` bytes may be read, small ones first; raises NoRoom after BODY_WAIT_SECONDS.

        Bodies that are being received hold a quarter of the limit together, for their senders are not trusted yet. The `received`
        bytes of those that wait hold as much; beyond it the largest of them is given up at once.
        """
        if self.used <= self.limit and self._bodies.fits(size):
            return
        self.count("body_waited")
        with self._bodies.waiting(size, received) as body:
            self._begin_relief()
            with self.hold(received), trio.move_on_after(BODY_WAIT_SECONDS):
                await body.decided.wait()
        if not body.admitted:
            raise NoRoom

    # Making room.

    async def relieve(self) -> None:
        """Make room whenever there is none, until cancelled. Of several tasks that call it one does, the others stand by."""
        async with self._reliever:
            await self._relieve()

    async def _relieve(self) -> None:
        while True:
            await self._shortage()
            self._log_shortage(trio.current_time())
            while self._relieving:
                # Calls and bodies that wait are more important than what was delivered.
                self._evict(self.limit * AMPLE)
                self._carry_out(self._view(trio.current_time()))
                self.short = self._calls_must_wait or bool(self._calls)
                self._relieving = self.used > self.limit or self.short or bool(self._bodies)
                if self._relieving:
                    with trio.move_on_after(TICK_SECONDS):
                        await self._woken.wait()
                    self._woken = trio.Event()

    async def _shortage(self) -> None:
        """Wait for a shortage. There may be one already, if the task that relieved before ended in the middle of it."""
        while not self._relieving:
            await self._woken.wait()
            self._woken = trio.Event()

    @property
    def _held_by_calls(self) -> int:
        return self._requests + self._unfinished

    @property
    def _calls_must_wait(self) -> bool:
        return self.used - self._held_by_calls > self.limit

    def _evict(self, target: float) -> None:
        while self.used > target and self._evictable:
            oldest = next(iter(self._evictable))
            del self._evictable[oldest]
            oldest.evict()
            self.count("replay_evicted")

    def _begin_relief(self) -> None:
        self._relieving = True
        self._woken.set()

    def _log_shortage(self, now: float) -> None:
        """One log line for a shortage, and at most one in LOG_LINE_SECONDS."""
        if now - self._logged_at >= LOG_LINE_SECONDS:
            self._logged_at = now
            event(
                logger, logging.WARNING, "memory is short: new calls and bodies wait", used=self.used, limit=self.limit
            )

    def _view(self, now: float) -> View:
        """What `decide` needs. Peers are in it at most once in TICK_SECONDS: there may be thousands."""
        view = View(
            self.used, self.limit, by_calls=self._held_by_calls, waiting=len(self._calls), typical=self._typical
        )
        if now < self._next_look:
            return view
        self._next_look = now + TICK_SECONDS
        return replace(
            view,
            connections=self._transfers.observe(now),
            abandoned=[self._watched_abandoned(kept, now) for kept in self._abandoned],
            body_missing=self._bodies.missing,
            cut_at_once=self._cut_at_once,
        )

    def _watched_abandoned(self, kept: Kept, now: float) -> Abandoned:
        since = self._abandoned[kept]
        if since is None:
            since = self._abandoned[kept] = now
        return Abandoned(kept.unread_bytes, now - since)

    def _carry_out(self, view: View) -> None:
        plan = decide(view)
        if view.connections:
            # Twice as many the next time: what the first ones free shows only when they are gone.
            self._cut_at_once = 2 * len(plan.cut) or 1
        for transfer in self._transfers.numbered(plan.cut):
            self.count("peer_cut")
            transfer.give_up()
        abandoned = list(self._abandoned) if plan.end else []
        for index in plan.end:
            self.count("session_ended")
            del self._abandoned[abandoned[index]]
            abandoned[index].give_up()
        for turn in list(islice(self._calls, plan.admit)):
            del self._calls[turn]
            turn.set()
        if self.used <= self.limit:
            self._bodies.admit()
