"""Stopping without breaking a promise: new work goes elsewhere, streams end cleanly and not all at once, calls finish.

stop signal ─▶ not ready · no new sessions ─▶ listen streams end, evenly spaced, each with its result
                                           ─▶ in the last two seconds session streams end, each with a `retry:`
window over ─▶ what still runs is cancelled and answered with an error ─▶ sessions close
nothing left at any point ─▶ done at once
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from trio_mcp.dispatch.call import Ending
from trio_mcp.observability.logs import event
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.probes import State

__all__ = ["FAREWELL_SECONDS", "drain", "farewell"]

logger = logging.getLogger("trio_mcp.serving")

LAST_CALL_SECONDS = 2.0
"""When session streams end: late, because their clients come straight back and there is nowhere else to go."""

FAREWELL_SECONDS = 0.5
"""For the answers of cancelled calls to reach their clients."""

LOOK_SECONDS = 0.1
"""A call whose client has left tells nobody when it ends: it is looked for, while the node drains and only then."""


async def drain(app: HttpApp, window: float) -> None:
    """Let the app empty itself: returns when no exchange is open and no call runs, or after `window` seconds."""
    event(logger, logging.INFO, "draining", window=window, open=app.open_exchanges, sessions=len(app.hub))
    app.state = State.DRAINING
    app.endpoint.legacy.refuse_sessions = True
    app.service.metrics.set_draining(True)
    with trio.move_on_after(window):
        async with trio.open_nursery() as nursery:
            last_call = min(LAST_CALL_SECONDS, window / 2)
            nursery.start_soon(_end_evenly, lambda: _listen_enders(app), 0.0, window - last_call)
            nursery.start_soon(_end_evenly, lambda: _stream_enders(app), window - last_call, last_call * 0.8)
            await _nothing_left(app)
            nursery.cancel_scope.cancel("nothing left to drain")


async def _nothing_left(app: HttpApp) -> None:
    await app.quiet()
    while app.open_exchanges or app.service.in_flight:  # noqa: ASYNC110
        await trio.sleep(LOOK_SECONDS)


async def _end_evenly(find: Callable[[], Sequence[Callable[[], None]]], wait: float, spread: float) -> None:
    await trio.sleep(wait)
    enders = find()
    for end in enders:
        end()
        await trio.sleep(spread / len(enders))


def _listen_enders(app: HttpApp) -> list[Callable[[], None]]:
    return [ended.set for ended in app.service.listeners.values()]


def _stream_enders(app: HttpApp) -> list[Callable[[], None]]:
    standalone = (session.streams.standalone.reader for session in app.hub.sessions)
    return [reader.close for reader in standalone if reader is not None and not reader.closed]


async def farewell(app: HttpApp) -> None:
    """Cancel and answer what still runs, end what is open; waits `FAREWELL_SECONDS` at most for clients to hear of it."""
    for ended in list(app.service.listeners.values()):
        ended.set()
    for call in list(app.service.in_flight):
        if call not in app.service.listeners:
            event(logger, logging.WARNING, "call cut short", method=call.method, request_id=call.request_id)
            call.cancel(Ending.SHUTDOWN)
    app.hub.close_all("shutdown")
    with trio.move_on_after(FAREWELL_SECONDS):
        await app.quiet()
