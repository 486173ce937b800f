"""Sessions of a node that stops go on with its peers: one after the other, each when it is at rest.

no call runs, no answer waits for its client ─▶ let go
calls overlap without end ─▶ new ones wait, those in flight end ─▶ let go, and who waited goes with it
nobody to take it ─▶ later
"""

from __future__ import annotations

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
"""A session that comes to no rest by itself for so long holds its calls back."""

HOLD_BACK_SECONDS = 1.0
"""At first; twice as long each time, for the calls in flight may take longer."""

AGAIN_SECONDS = 1.0
"""Between two attempts to let a session leave."""

LOOK_SECONDS = 0.1
"""An answer that is fetched tells nobody."""


async def leave_evenly(sessions: Sequence[Session], cluster: Cluster, spread: float, until: float) -> None:
    """Begin with one after the other within `spread` seconds; returns when all have left. Over by `until` (trio clock)."""
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(_leave, cluster, session, until)
            await trio.sleep(spread / len(sessions))


async def _leave(cluster: Cluster, session: Session, until: float) -> None:
    """As soon as no call runs and there is somebody to take it: a peer may become ready, or Redis come back, only now."""
    patience = HOLD_BACK_SECONDS
    while session.closed_because is None:
        with trio.move_on_after(min(REST_SECONDS, _left(until) / 4)):
            await _come_to_rest(session)
        if not cluster.has_ready_peer:
            await trio.sleep(AGAIN_SECONDS)
            continue
        with session.calls_held_back():
            with trio.move_on_after(min(patience, _left(until) / 2)):
                await session.calls_done()
            if not session.in_flight and await cluster.release(session):
                return
        patience *= 2
        await trio.sleep(min(AGAIN_SECONDS, max(LOOK_SECONDS, _left(until) / 4)))


def _left(until: float) -> float:
    return max(0.0, until - trio.current_time())


async def _come_to_rest(session: Session) -> None:
    await session.calls_done()
    with trio.move_on_after(FETCH_SECONDS):
        while session.streams.unread_answers:  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
    await session.calls_done()
