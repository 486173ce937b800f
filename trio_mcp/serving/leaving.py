"""Sessions of a node that stops go on with its peers: one after the other, each when it is at rest.

no call runs, no answer waits for its client ─▶ let go
short calls overlap without end ─▶ new ones wait, those in flight end ─▶ let go, and who waited goes with it
a call runs for long ─▶ later, when it has ended; others run beside it
nobody to take it ─▶ later
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from trio_mcp.sessions.session import Session

if TYPE_CHECKING:
    from trio_mcp.cluster.cluster import Cluster

__all__ = ["leave_evenly"]

FETCH_SECONDS = 4.0
"""Four times what a client that was cut off waits before it comes for its answer: no other node has it."""

REST_SECONDS = 5.0
"""A session that comes to no rest by itself for so long holds its calls back, if none in flight is older."""

HOLD_BACK_SECONDS, MOST_HELD_BACK_SECONDS = 1.0, 8.0
"""At first, and twice as long each time, for the calls in flight may take longer; but less than `session.TURN_SECONDS`."""

AGAIN_SECONDS = 1.0
"""Between two attempts to let a session leave."""

LOOK_SECONDS = 0.1
"""An answer that is fetched tells nobody."""


async def leave_evenly(sessions: Sequence[Session], cluster: Cluster, spread: float, until: float) -> None:
    """Begin with one after the other within `spread` seconds; returns when all have left. Over by `until` (trio clock)."""
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(_Leaving(cluster, session, until).run)
            await trio.sleep(spread / len(sessions))


class _Leaving:
    """One session on its way."""

    def __init__(self, cluster: Cluster, session: Session, until: float) -> None:
        self._cluster = cluster
        self._session = session
        self._until = until
        self._fetch_by = math.inf

    async def run(self) -> None:
        """As soon as it is at rest and there is somebody to take it: a peer may become ready, or Redis come back, only now."""
        patience = HOLD_BACK_SECONDS
        while self._session.closed_because is None:
            with trio.move_on_after(min(REST_SECONDS, self._left / 4)):
                await self._come_to_rest()
            # What has run for long will run on: others need not wait for it.
            if self._cluster.can_release and self._session.oldest_call > trio.current_time() - REST_SECONDS:
                if await self._go(min(patience, self._left / 2)):
                    return
                patience = min(2 * patience, MOST_HELD_BACK_SECONDS)
            await trio.sleep(min(AGAIN_SECONDS, max(LOOK_SECONDS, self._left / 4)))

    async def _go(self, patience: float) -> bool:
        with self._session.calls_held_back():
            with trio.move_on_after(patience):
                await self._come_to_rest()
            return self._is_at_rest and await self._cluster.release(self._session)

    async def _come_to_rest(self) -> None:
        while not self._is_at_rest:
            await self._session.calls_done()
            if self._session.streams.unread_answers:
                self._fetch_by = min(self._fetch_by, trio.current_time() + FETCH_SECONDS)
                await trio.sleep(LOOK_SECONDS)
            else:
                self._fetch_by = math.inf

    @property
    def _is_at_rest(self) -> bool:
        """No call runs, and no answer waits for a client that may yet come for it."""
        given_up = trio.current_time() >= self._fetch_by
        return not self._session.in_flight and (given_up or not self._session.streams.unread_answers)

    @property
    def _left(self) -> float:
        return max(0.0, self._until - trio.current_time())
