"""What waits in the memory of one node, in bytes: one account for everybody.

    event logs ── kept for replay, unread ──┐
    listener ──── written, not yet taken ───┼──▶ Account ──▶ over the limit:
    endpoint ──── bodies on their way ──────┤      1. replays go, those delivered longest ago first (at once)
    stdio ─────── requests not yet begun ───┘      2. calls wait before they start, bodies wait unread
                                                   3. `relief.decide`: slow peers are cut, then what nobody reads goes

Charging never blocks and never fails: what is there is there. Only what is about to begin waits, in `wait_to_start_call` and `room_for_body`.
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
"""What weighs no more than the connection it comes or leaves by is not counted."""

CALL_WAIT_SECONDS = 60.0
"""How long a call waits for room: as long as most clients wait for an answer."""

BODY_WAIT_SECONDS = 30.0
"""How long a body waits unread. Less than a call, for its client may still send it elsewhere."""

HARD = 2
"""Times the limit, and a holder's share: calls that run when it is reached may still answer, up to here."""

TICK_SECONDS = 0.25
"""Between two looks at a node that is short of room, when nothing else wakes it."""

LOG_LINE_SECONDS = 10.0
"""From one line of the log about a shortage to the next: a node at its limit comes and goes across it many times a second."""

_LATELY = 0.2
"""The weight of the newest answer in what is typical."""


class NoRoom(Exception):
    """The node held more than it may for all the time one could wait."""


class Kept(Protocol):
    """What was delivered and is kept for replay, or waits for a reader."""

    def evict(self) -> None:
        """Give back what was delivered, and, while nobody reads, what may be missed."""

    def give_up(self) -> None:
        """End what it belongs to: nobody reads it."""

    @property
    def unread_bytes(self) -> int:
        """What was not delivered and may not be dropped."""


class Holder(Protocol):
    """Somebody who holds a part of the account: a session, a connection."""

    @property
    def unread(self) -> int:
        """Bytes of answers that wait for their reader."""

    @property
    def unfinished(self) -> int:
        """Bytes of answers that wait for the rest of their batch: who reads faster gets them no sooner."""


class Account:
    """Counts what waits, and makes room. `limit` in bytes; nobody alone may hold more than `share`, a quarter.

    It belongs to one event loop; all servers in that loop may share one.
    """

    def __init__(self, limit: int = MAX_KEPT_BYTES) -> None:
        self.limit = limit
        self.share: int = limit // 4
        self.used: int = 0
        self.short: bool = False
        """Whether new calls have to wait: there is no room, or others wait already."""
        self._count: Callable[[str], None] | None = None
        self._evictable: dict[Kept, None] = {}
        self._abandoned: dict[Kept, float | None] = {}
        self._transfers = Transfers()
        self._calls: dict[trio.Event, None] = {}
        self._bodies = Bodies(self.share)
        self._requests = 0
        """Of `used`: bodies of requests that are complete. Only a call that runs to its end gives its own back."""
        self._unfinished = 0
        """Of `used`: answers that wait for the rest of their batch. Only the calls of that batch give them back."""
        self._typical = 0.0
        self._relieving = False
        self._reliever = trio.Lock()
        self._next_look = 0.0
        self._cut_at_once = 1
        self._logged_at = -math.inf
        self._woken = trio.Event()

    def report_to(self, counter: Callable[[str], None]) -> None:
        """Tell `counter` the name of everything that is done for want of room. The first who asks is told."""
        self._count = self._count or counter

    def count(self, what: str) -> None:
        """`what` was done for want of room."""
        if self._count is not None:
            self._count(what)

    # What is there.

    def charge(self, count: int) -> None:
        """So many bytes more wait. Evicts replays at once if that is too much."""
        self.used += count
        if self.used > self.limit:
            self._evict(self.limit)
            if self.used > self.limit:
                self.short = self.short or self._calls_must_wait
                self._begin_relief()

    def release(self, count: int) -> None:
        """So many bytes less."""
        self.used -= count
        if self._relieving:
            self._woken.set()

    def charge_request(self, count: int) -> None:
        """The body of a request, of so many bytes, is complete: no reason for calls to wait, for it goes when its call has run."""
        self._requests += count
        self.charge(count)

    def release_request(self, count: int) -> None:
        """Its call has run."""
        self._requests -= count
        self.release(count)

    def charge_unfinished(self, count: int) -> None:
        """An answer of so many bytes waits for the rest of its batch: no reason for calls to wait, its own among them."""
        self._unfinished += count
        self.charge(count)

    def release_unfinished(self, count: int) -> None:
        """The batch is complete."""
        self._unfinished -= count
        self.release(count)

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """So many bytes wait for the length of the block."""
        self.charge(count)
        try:
            yield
        finally:
            self.release(count)

    def add_evictable(self, kept: Kept) -> None:
        """A part of `kept` was read just now, or may be missed and has no reader: of all that may go it is the last."""
        self._evictable.pop(kept, None)
        self._evictable[kept] = None
        if self._relieving:
            self._woken.set()

    def add_abandoned(self, kept: Kept) -> None:
        """Something in `kept` must not be dropped, and has no reader."""
        self._abandoned.setdefault(kept, None)

    def remove_abandoned(self, kept: Kept) -> None:
        """Somebody reads `kept` now."""
        self._abandoned.pop(kept, None)

    def forget(self, kept: Kept) -> None:
        """Nothing of `kept` is left."""
        self._evictable.pop(kept, None)
        self._abandoned.pop(kept, None)

    @contextmanager
    def transfer(self, held: int, *, body: bool = False) -> Iterator[Transfer]:
        """Count `held` bytes for the block, which waits for a peer and is cancelled should that peer have to go.

        Of a `body`, `held` is what its peer sends.
        """
        with self.hold(held), self._transfers.of(held, body=body) as transfer:
            yield transfer

    # What is to come.

    def has_room_for_answer(self, size: int, holder: Holder | None) -> bool:
        """Whether an answer of `size` bytes may wait for its reader: a quarter at most, and what the others left."""
        self._typical += _LATELY * (size - self._typical)
        held = 0 if holder is None else holder.unread + holder.unfinished
        # However much the calls came with: they could give nothing back if none of them were answered.
        used = self.used - max(0, self._requests - self.limit)
        return size <= self.share and held + size <= HARD * self.share and used + size <= HARD * self.limit

    def may_start_call(self, holder: Holder | None) -> bool:
        """Whether a new call may start now."""
        return not self.short and (holder is None or holder.unread < self.share)

    async def wait_to_start_call(self, holder: Holder | None) -> None:
        """Wait until a new call may start, first come first served; raises NoRoom."""
        self.count("call_waited")
        with trio.move_on_after(CALL_WAIT_SECONDS):
            # Nobody else is kept waiting by one that reads too little of what it asked for.
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
        """A body of `size` bytes is received for the length of the block, which is cancelled should it have to make way."""
        with self._bodies.receiving(size), self.transfer(size, body=True) as transfer:
            transfer.progress(received)
            if self._bodies:
                # The next may have room beside it; when it ends, what is released tells.
                self._woken.set()
            yield transfer

    async def room_for_body(self, size: int, received: int = 0) -> None:
        """Wait until a body of `size` bytes may be read, small ones first; raises NoRoom.

        Bodies that are being received hold a quarter at most, all together: nobody knows yet who sends them. So do the `received`
        bytes of those that wait; past that the largest of them is given up at once.
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

    # Relief.

    async def relieve(self) -> None:
        """Make room whenever there is none, until cancelled. Of several tasks one does, and when it has ended the next."""
        async with self._reliever:
            await self._relieve()

    async def _relieve(self) -> None:
        while True:
            await self._shortage()
            self._log_shortage(trio.current_time())
            while self._relieving:
                # Whoever waits is worth more than what was delivered.
                self._evict(self.limit * AMPLE)
                self._carry_out(self._view(trio.current_time()))
                self.short = self._calls_must_wait or bool(self._calls)
                self._relieving = self.used > self.limit or self.short or bool(self._bodies)
                if self._relieving:
                    with trio.move_on_after(TICK_SECONDS):
                        await self._woken.wait()
                    self._woken = trio.Event()

    async def _shortage(self) -> None:
        """Wait for one, perhaps for none: whoever relieved before may have ended in the middle of it."""
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
        """One log line a shortage, and no more of them than anybody reads."""
        if now - self._logged_at >= LOG_LINE_SECONDS:
            self._logged_at = now
            event(
                logger, logging.WARNING, "memory is short: new calls and bodies wait", used=self.used, limit=self.limit
            )

    def _view(self, now: float) -> View:
        """Peers are looked at once a tick, whatever wakes us in between: there may be thousands."""
        view = View(
            self.used, self.limit, by_calls=self._held_by_calls, waiting=len(self._calls), typical=self._typical
        )
        if now < self._next_look:
            return view
        self._next_look = now + TICK_SECONDS
        return replace(
            view,
            peers=self._transfers.observe(now),
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
        if view.peers:
            # What the others free by going shows before more of them go.
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
