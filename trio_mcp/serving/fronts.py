"""What turns connections into exchanges: our own listener, or Hypercorn."""

from __future__ import annotations

import socket
from typing import Protocol

import trio

from trio_mcp.serving.descriptors import connection_limit
from trio_mcp.serving.listening import listen
from trio_mcp.serving.settings import Settings
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Limits, serve

__all__ = ["Front", "open_front"]

STOP_SECONDS = 0.2
"""For connections to close once their exchanges have ended; the nursery's cancel ends the rest."""


class Front(Protocol):
    """A front that serves until its nursery is cancelled, or stopped."""

    urls: list[str]

    async def stop(self) -> None:
        """Close what is idle, now that the node's state is STOPPING; returns soon."""


async def open_front(nursery: trio.Nursery, app: HttpApp, settings: Settings) -> Front:
    """Listen and serve in `nursery`; raises CannotListen or CertificateError, and then nothing is left open."""
    listeners = await listen(settings.binds)
    try:
        return await _serving(nursery, app, settings, listeners)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise


async def _serving(
    nursery: trio.Nursery, app: HttpApp, settings: Settings, listeners: list[trio.SocketListener]
) -> Front:
    urls = [_url(listener.socket, settings) for listener in listeners]
    if settings.server == "hypercorn":
        from trio_mcp.serving.hypercorn_front import HypercornFront

        return await HypercornFront.open(nursery, app, settings, listeners, urls)
    front = _OwnFront(urls)
    await nursery.start(front.run, app, listeners, _limits(app, settings))
    return front


class _OwnFront:
    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self._stopped = trio.Event()

    async def run(
        self,
        app: HttpApp,
        listeners: list[trio.SocketListener],
        limits: Limits,
        *,
        task_status: trio.TaskStatus[object],
    ) -> None:
        try:
            await serve(
                app,
                listeners,
                limits=limits,
                account=app.service.account,
                stopping=app.life.no_more_connections,
                refused=app.service.refusals.note,
                task_status=task_status,
            )
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        with trio.move_on_after(STOP_SECONDS):
            await self._stopped.wait()


def _limits(app: HttpApp, settings: Settings) -> Limits:
    return Limits(
        connections=connection_limit(settings.max_connections),
        head_bytes=settings.max_head,
        head_seconds=settings.head_timeout,
        body_bytes=settings.max_body,
        body_seconds=settings.body_timeout,
        write_seconds=app.service.options.write_timeout,
        idle_seconds=settings.connection_idle_timeout,
    )


def _url(listening: trio.socket.SocketType, settings: Settings) -> str:
    scheme = "https" if settings.certfile else "http"
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}{settings.path}"
