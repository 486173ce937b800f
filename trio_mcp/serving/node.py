"""One node: signals, readiness, the listeners, and the order in which it all ends."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import trio

from trio_mcp.server import MCPServer
from trio_mcp.serving.admin import AdminApp
from trio_mcp.serving.drain import FAREWELL_SECONDS, drain, farewell
from trio_mcp.serving.exit import no_longer_than
from trio_mcp.serving.fronts import open_front
from trio_mcp.serving.listening import listen
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.vitals import watch_vitals
from trio_mcp.serving.wiring import build_app
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import serve as serve_asgi

__all__ = ["serve"]

INTERACTIVE_WINDOW = 1.0
"""Ctrl+C on a terminal: somebody is waiting for the prompt."""

LAST_RESORT_SECONDS = FAREWELL_SECONDS + 0.3
"""From the cancel of what still runs to the end of the process, whatever refuses to stop."""


async def serve(
    server: MCPServer,
    settings: Settings,
    *,
    announce: Callable[[list[str]], None] | None = None,
    interactive: bool = False,
) -> int:
    """Serve over HTTP until SIGTERM, SIGINT or the admin's drain; the exit code: 0, or 128 + n for a second signal n.

    `announce` is called with the URLs once they answer. Raises CannotListen, in a group.
    """
    app = build_app(server, settings)
    asked_to_drain = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, ExitStack() as last_resort:
        async with app.running(), trio.open_nursery() as nursery:
            nursery.start_soon(watch_vitals, app.service)
            front = await open_front(nursery, app, settings)
            await _open_admin(nursery, app, settings, asked_to_drain)
            if announce is not None:
                announce(front.urls)
            code = await _until_drained(app, signals, asked_to_drain, settings, interactive=interactive)
            last_resort.enter_context(no_longer_than(LAST_RESORT_SECONDS, code, lambda: _still_running(app)))
            await farewell(app)
            await front.stop()
            nursery.cancel_scope.cancel("stopped")
    return code


async def _open_admin(nursery: trio.Nursery, app: HttpApp, settings: Settings, drain_asked: trio.Event) -> None:
    if settings.admin_bind is not None:
        listeners = await listen([settings.admin_bind])
        await nursery.start(serve_asgi, AdminApp(app, drain_asked), listeners)


async def _until_drained(
    app: HttpApp, signals: AsyncIterator[int], asked_to_drain: trio.Event, settings: Settings, *, interactive: bool
) -> int:
    """Wait for a reason to stop, then drain; a second signal ends that at once."""
    first = await _first_reason(signals, asked_to_drain)
    window = settings.drain_timeout
    if first == signal.SIGINT and interactive:
        window = min(INTERACTIVE_WINDOW, window)
    code = 0

    async def second_signal(scope: trio.CancelScope) -> None:
        nonlocal code
        code = 128 + await anext(signals)
        scope.cancel("a second signal came")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(second_signal, nursery.cancel_scope)
        await drain(app, window)
        nursery.cancel_scope.cancel("drained")
    return code


async def _first_reason(signals: AsyncIterator[int], asked_to_drain: trio.Event) -> int | None:
    """The first signal, or None when the admin asked."""
    received: int | None = None

    async def by_signal(scope: trio.CancelScope) -> None:
        nonlocal received
        received = await anext(signals)
        scope.cancel("a signal came")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(by_signal, nursery.cancel_scope)
        await asked_to_drain.wait()
        nursery.cancel_scope.cancel("the admin asked")
    return received


def _still_running(app: HttpApp) -> list[str]:
    return [f"{call.method} {call.params.get('name', '')}".strip() for call in list(app.service.in_flight)]
