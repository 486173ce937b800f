"""How a draining node hands its sessions over to its peers, each when it is at rest.

A session is at rest when no call of it runs and no answer waits for its client. It is released then: its record in Redis is marked, its streams
end, and the peer that its client reaches next restores it. A session without an open stream is released at once, because no client
reconnects because of it; those with a stream one after the other, because their clients reconnect at once.

 short calls overlap ──▶ new ones are paused until those in flight have ended; the paused ones follow the session to its new node
 a long call runs ─────▶ the session waits for its end, and other calls run beside it
 no peer, or no Redis ─▶ the session stays, and it is tried again
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
"""Sessions that are released at the same time: as many as there are connections to Redis."""


async def hand_over_evenly(sessions: Sequence[LiveSession], cluster: Cluster, spread: float, until: float) -> None:
    """Release all `sessions`; returns when they are. The caller cancels it at `until` (trio clock).

    Those with an open stream begin one after the other within `spread` seconds, all others now.
    """
    streaming = [session for session in sessions if session.streams.standalone.reader is not None]
    quiet = iter([session for session in sessions if session.streams.standalone.reader is None])
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(_hand_over_now, quiet, cluster, until, nursery)
        began = trio.current_time()
        for number, session in enumerate(streaming, 1):
            nursery.start_soon(_Handover(cluster, session, until).run)
            await trio.sleep_until(began + spread * number / len(streaming))


async def _hand_over_now(quiet: Iterator[LiveSession], cluster: Cluster, until: float, nursery: trio.Nursery) -> None:
    """Release those that are at rest; for each of the others start a task that waits until it is."""
    for session in quiet:
        handover = _Handover(cluster, session, until)
        if not await handover.now():
            nursery.start_soon(handover.run)


class _Handover:
    """The handover of one session. `until` is when it must be over (trio clock)."""

    def __init__(self, cluster: Cluster, session: LiveSession, until: float) -> None:
        self._cluster = cluster
        self._session = session
        self._until = until
        self._fetch_by = math.inf
        self._tried = False

    async def run(self) -> None:
        """Release it as soon as it is at rest, a peer is ready, and Redis answers."""
        patience = PAUSE_SECONDS
        if self._tried:
            await self._wait_for_retry()
        while self._session.closed_because is None:
            with trio.move_on_after(min(REST_SECONDS, self._left / 4)):
                await self._wait_for_rest()
            # A call that has run for long may run on for long: no other call is paused because of it.
            if self._cluster.can_release and self._session.calls.oldest > trio.current_time() - REST_SECONDS:
                if await self._release_within(min(patience, self._left / 2)):
                    return
                patience = min(2 * patience, MOST_PAUSE_SECONDS)
            await self._wait_for_retry()

    async def now(self) -> bool:
        """Release it if it is at rest; whether it is released, or closed already."""
        if self._session.closed_because is not None:
            return True
        if not self._at_rest or not self._cluster.can_release:
            return False
        self._tried = True
        return await self._release_within(0)

    async def _wait_for_retry(self) -> None:
        await trio.sleep(min(RETRY_SECONDS, max(POLL_SECONDS, self._left / 4)))

    async def _release_within(self, patience: float) -> bool:
        with self._session.calls.pausing():
            with trio.move_on_after(patience):
                await self._wait_for_rest()
            return self._at_rest and await self._cluster.release(self._session)

    async def _wait_for_rest(self) -> None:
        while not self._at_rest:
            await self._session.calls.wait_done()
            if self._session.streams.unread_answers:
                self._fetch_by = min(self._fetch_by, trio.current_time() + FETCH_SECONDS)
                await trio.sleep(POLL_SECONDS)
            else:
                self._fetch_by = math.inf

    @property
    def _at_rest(self) -> bool:
        """Whether no call runs, and no answer waits for its client, or none has come for it in FETCH_SECONDS."""
        given_up = trio.current_time() >= self._fetch_by
        return not self._session.calls and (given_up or not self._session.streams.unread_answers)

    @property
    def _left(self) -> float:
        return max(0.0, self._until - trio.current_time())
