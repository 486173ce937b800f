"""Sessions of a node that stops go on with its peers, each when it is at rest.

no stream is open ─▶ at once, for no client comes back because of it
a stream is open ─▶ one after the other, evenly: their clients come straight back
no call runs, no answer waits for its client ─▶ let go
short calls overlap without end ─▶ new ones wait, those in flight end ─▶ let go, and who waited goes with it
a call runs for long ─▶ later, when it has ended; others run beside it
nobody to take it ─▶ later
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import trio

from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.stop_times import (
    FETCH_SECONDS,
    MOST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    POLL_SECONDS,
    REST_SECONDS,
    RETRY_SECONDS,
)

if TYPE_CHECKING:
    from trio_mcp.cluster.cluster import Cluster

__all__ = ["hand_over_evenly"]

AT_ONCE = 4
"""Sessions that are let go of at the same time: as many as there are connections to Redis."""


async def hand_over_evenly(sessions: Sequence[LiveSession], cluster: Cluster, spread: float, until: float) -> None:
    """Have all sessions leave; returns when they have. Over by `until` (trio clock).

    Those with a stream begin one after the other within `spread` seconds, all others now.
    """
    streaming = [session for session in sessions if session.streams.standalone.reader is not None]
    quiet = iter([session for session in sessions if session.streams.standalone.reader is None])
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(_hand_over_now, quiet, cluster, until, nursery)
        for session in streaming:
            nursery.start_soon(_Handover(cluster, session, until).run)
            await trio.sleep(spread / len(streaming))


async def _hand_over_now(quiet: Iterator[LiveSession], cluster: Cluster, until: float, nursery: trio.Nursery) -> None:
    """Let go of sessions that are at rest; the others leave when they are."""
    for session in quiet:
        handover = _Handover(cluster, session, until)
        if not await handover.now():
            nursery.start_soon(handover.run)


class _Handover:
    """One session on its way."""

    def __init__(self, cluster: Cluster, session: LiveSession, until: float) -> None:
        self._cluster = cluster
        self._session = session
        self._until = until
        self._fetch_by = math.inf
        self._tried = False

    async def run(self) -> None:
        """As soon as it is at rest and there is somebody to take it: a peer may become ready, or Redis come back, only now."""
        patience = PAUSE_SECONDS
        if self._tried:
            await self._until_next()
        while self._session.closed_because is None:
            with trio.move_on_after(min(REST_SECONDS, self._left / 4)):
                await self._come_to_rest()
            # What has run for long will run on: others need not wait for it.
            if self._cluster.can_release and self._session.calls.oldest > trio.current_time() - REST_SECONDS:
                if await self._go(min(patience, self._left / 2)):
                    return
                patience = min(2 * patience, MOST_PAUSE_SECONDS)
            await self._until_next()

    async def now(self) -> bool:
        """Whether it has left already, or could at once."""
        if self._session.closed_because is not None:
            return True
        if not self._is_at_rest or not self._cluster.can_release:
            return False
        self._tried = True
        return await self._go(0)

    async def _until_next(self) -> None:
        await trio.sleep(min(RETRY_SECONDS, max(POLL_SECONDS, self._left / 4)))

    async def _go(self, patience: float) -> bool:
        with self._session.calls.pausing():
            with trio.move_on_after(patience):
                await self._come_to_rest()
            return self._is_at_rest and await self._cluster.release(self._session)

    async def _come_to_rest(self) -> None:
        while not self._is_at_rest:
            await self._session.calls.wait_done()
            if self._session.streams.unread_answers:
                self._fetch_by = min(self._fetch_by, trio.current_time() + FETCH_SECONDS)
                await trio.sleep(POLL_SECONDS)
            else:
                self._fetch_by = math.inf

    @property
    def _is_at_rest(self) -> bool:
        """No call runs, and no answer waits for a client that may yet come for it."""
        given_up = trio.current_time() >= self._fetch_by
        return not self._session.calls and (given_up or not self._session.streams.unread_answers)

    @property
    def _left(self) -> float:
        return max(0.0, self._until - trio.current_time())
