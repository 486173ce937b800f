"""The drain of a node: new work goes to peers, streams end one after the other, running calls finish.

`sessions.stop_times` has the timeline and the constants, `sessions.node_state` what a node answers meanwhile.

The drain ends as soon as nothing is left. With a ready peer it lasts until balancers have seen the 503 of `/livez`, and until the
requests that were relayed to peers have their responses. When the window is over, no call of a session begins any more: a new one
waits, and finds its session closed. Sessions close as soon as no call of theirs runs, for which they have
LAST_CALLS_SECONDS; `end_remaining` cancels what runs even then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import trio

from trio_mcp.dispatch.call import Ending
from trio_mcp.dispatch.user_code import labels
from trio_mcp.observability.logs import event
from trio_mcp.serving.handover import hand_over_evenly
from trio_mcp.serving.task_handover import end_tasks, hand_over_tasks, tasks_are_recorded
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.stop_times import (
    ALONE_SECONDS,
    BALANCER_SECONDS,
    CUT_ANSWERS_SECONDS,
    LAST_CALLS_SECONDS,
    LAST_STREAMS_SECONDS,
    POLL_SECONDS,
)
from trio_mcp.transports.http.app import HttpApp

if TYPE_CHECKING:
    from trio_mcp.cluster.cluster import Cluster

__all__ = ["MayEnd", "drain", "end_remaining"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

MayEnd: TypeAlias = Callable[[bool], bool]
"""Asked with True while anything is left here to drain, else with False. Returns whether the drain may end before its window is over."""


async def drain(
    app: HttpApp,
    window: float,
    *,
    delay: float = 0.0,
    tasks: float = 0.0,
    cluster: Cluster | None = None,
    balanced: bool = True,
    may_end: MayEnd = lambda left: not left,
) -> None:
    """Drain the node; the caller cancels what still runs afterwards (`end_remaining`).

    Returns when nothing is left, or `delay`, `window` and LAST_CALLS_SECONDS after the call; where tasks run, not before `tasks` after
    the `delay`. Times in seconds. `balanced`: balancers probe this process, and must have time to learn that it stops. It is False for a
    worker that is replaced, whose node goes on. `may_end` is asked again and again: where several workers drain together, one that has
    nothing left goes on serving as long as others have something.
    """
    event(logger, logging.INFO, "draining", window=window, open=app.open_exchanges, sessions=len(app.hub))
    app.service.metrics.set_draining(True)
    _enter(NodeState.DRAINING, app, cluster)
    await trio.sleep(delay)
    with_peers = cluster is not None and cluster.has_ready_peer
    leaving = with_peers and balanced
    _enter(NodeState.LEAVING if leaving else NodeState.CLOSING, app, cluster)
    balancers_know = trio.current_time() + (BALANCER_SECONDS if leaving else 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over_tasks, app.service, max(window, tasks))
        with trio.move_on_after(window):
            await _empty(app, window, cluster, may_end)
            await trio.sleep_until(balancers_know)
            await _relayed_are_answered(cluster)
        with trio.move_on_after(LAST_CALLS_SECONDS):
            await _close_sessions(app)
            await _relayed_are_answered(cluster)


def _enter(state: NodeState, app: HttpApp, cluster: Cluster | None) -> None:
    app.life.enter(state)
    if cluster is not None:
        cluster.announce()


async def _empty(app: HttpApp, window: float, cluster: Cluster | None, may_end: MayEnd) -> None:
    last_streams = min(LAST_STREAMS_SECONDS, window / 2)
    spread = window - last_streams
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_evenly, lambda: _listen_enders(app), 0.0, spread)
        if app.websockets is not None:
            nursery.start_soon(_end_evenly, partial(app.websockets.enders, nursery), 0.0, spread)
        if cluster is not None:
            nursery.start_soon(_end_evenly, cluster.relayed_stream_enders, 0.0, spread)
        if cluster is not None and cluster.options.restore:
            nursery.start_soon(hand_over_evenly, _movable(app), cluster, spread, trio.current_time() + window)
        else:
            nursery.start_soon(_end_evenly, lambda: _stream_enders(app), spread, last_streams * 0.8)
        await _nothing_left(app, cluster is not None, may_end)
        nursery.cancel_scope.cancel("nothing left to drain")


async def _nothing_left(app: HttpApp, sessions_count: bool, may_end: MayEnd) -> None:
    """Wait until nothing is left to drain.

    Without a cluster an unused session is not waited for: no other node could take it.
    """
    await app.quiet()
    while not may_end(bool(app.open_exchanges or app.service.in_flight or (sessions_count and len(app.hub)))):  # noqa: ASYNC110
        await trio.sleep(POLL_SECONDS)


async def _relayed_are_answered(cluster: Cluster | None) -> None:
    """Wait until each request that was relayed to a peer has its response, which `end_remaining` would cut off."""
    while cluster is not None and cluster.awaits_answers:  # noqa: ASYNC110
        await trio.sleep(POLL_SECONDS)


async def _close_sessions(app: HttpApp) -> None:
    """Close each session as soon as no call of it runs; return when no call runs that has only just begun."""
    async with trio.open_nursery() as nursery:
        for session in _movable(app):
            session.calls.pause()
        nursery.start_soon(_close_each, _movable(app), nursery)
        while _just_begun(app):  # noqa: ASYNC110
            await trio.sleep(POLL_SECONDS)
        nursery.cancel_scope.cancel("no call is left that has only just begun")


def _just_begun(app: HttpApp) -> bool:
    now = trio.current_time()
    return any(
        now - call.started < LAST_CALLS_SECONDS
        for call in app.service.in_flight
        if call not in app.service.listen_calls
    )


async def _close_each(sessions: Sequence[LiveSession], nursery: trio.Nursery) -> None:
    for session in sessions:
        nursery.start_soon(_close_without_calls, session)
        await _let_answers_go_out()


def _is_at_rest(session: LiveSession) -> bool:
    return session.streams.standalone.reader is None and not len(session.calls)


async def _let_answers_go_out() -> None:
    """Between two sessions that close: thousands that close in one turn of the loop would use up the time the last answers have."""
    await trio.lowlevel.checkpoint()


async def _close_without_calls(session: LiveSession) -> None:
    await session.calls.wait_done()
    session.close(CloseReason.SHUTDOWN)


async def _end_evenly(find: Callable[[], Sequence[Callable[[], None]]], wait: float, spread: float) -> None:
    """Call what `find` returns after `wait` seconds, one after the other over `spread` seconds."""
    await trio.sleep(wait)
    enders = find()
    began = trio.current_time()
    for number, end in enumerate(enders, 1):
        end()
        # By the clock, not for a while: on a busy machine each turn is late, and the last would come after the window.
        await trio.sleep_until(began + spread * number / len(enders))


def _movable(app: HttpApp) -> list[LiveSession]:
    """The sessions whose clients come back by another connection; those of WebSockets end with theirs."""
    return [session for session in app.hub.sessions if not session.bound]


def _listen_enders(app: HttpApp) -> list[Callable[[], None]]:
    return [ended.set for ended in app.service.listen_calls.values()]


def _stream_enders(app: HttpApp) -> list[Callable[[], None]]:
    standalone = (session.streams.standalone.reader for session in _movable(app))
    return [reader.close for reader in standalone if reader is not None and not reader.closed]


async def end_remaining(app: HttpApp, cluster: Cluster | None = None, *, together: bool = False) -> None:
    """Cancel every running call, end every task and stream, close every session: those at rest last, one after the other.

    Waits until the errors of the calls have been sent and the ends of tasks are written: CUT_ANSWERS_SECONDS at most, and without peers
    ALONE_SECONDS more, for then nothing else has to be done before the process ends. `together`: the peers are workers that end at the
    same time, and the errors of their calls are passed on for half of that time.
    """
    seconds = CUT_ANSWERS_SECONDS if cluster is not None else CUT_ANSWERS_SECONDS + ALONE_SECONDS
    for end in _listen_enders(app):
        end()
    if cluster is not None and not together:
        cluster.end_relays()
    end_tasks(app.service)
    for call in list(app.service.in_flight):
        if call not in app.service.listen_calls:
            event(logger, logging.WARNING, "call cut short", method=call.method, tool=call.tool_name, **labels(call))
            call.cancel(Ending.SHUTDOWN)
    if app.websockets is not None:
        # Before the sessions, for each connection closes its own when all of its calls have their answers.
        with trio.move_on_after(seconds / 2):
            await app.websockets.end_all()
    async with trio.open_nursery() as nursery:
        if cluster is not None and together:
            nursery.start_soon(_end_relays_after, seconds / 2, cluster)
        with trio.move_on_after(seconds):
            await _close_those_at_rest_last(app)
            await app.quiet()
            await tasks_are_recorded(app.service)
        nursery.cancel_scope.cancel("the errors are sent")
    app.hub.close_all(CloseReason.SHUTDOWN)


async def _end_relays_after(seconds: float, cluster: Cluster) -> None:
    await trio.sleep(seconds)
    cluster.end_relays()


async def _close_those_at_rest_last(app: HttpApp) -> None:
    for session in sorted(app.hub.sessions, key=_is_at_rest):
        session.close(CloseReason.SHUTDOWN)
        if _is_at_rest(session):
            await _let_answers_go_out()
