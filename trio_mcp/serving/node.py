"""One node: signals, readiness, the listeners, and the order in which it all ends."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.observability.logs import event
from trio_mcp.server import MCPServer
from trio_mcp.serving.admin import AdminApp
from trio_mcp.serving.advertise import advertised_url
from trio_mcp.serving.descriptors import ADMIN_CONNECTIONS
from trio_mcp.serving.drain import FAREWELL_SECONDS, drain, farewell
from trio_mcp.serving.exit import no_longer_than
from trio_mcp.serving.fronts import Front, open_front
from trio_mcp.serving.listening import listen, no_socket_files
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.vitals import watch_vitals
from trio_mcp.serving.wiring import build_app, build_cluster
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Limits
from trio_mcp.transports.listener import serve as serve_asgi

if TYPE_CHECKING:
    from trio_mcp.cluster.cluster import Cluster

__all__ = ["serve"]

logger = logging.getLogger("trio_mcp.serving")

INTERACTIVE_WINDOW = 1.0
"""Ctrl+C on a terminal: somebody is waiting for the prompt."""

LAST_RESORT_SECONDS = FAREWELL_SECONDS + 0.3
"""From the end of the drain window to the end of the process, whatever refuses to stop."""

GOODBYE_SECONDS = 1.2
"""More than that with peers: Redis hears what it is owed, and the thread that listens to it ends."""


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
    cluster = build_cluster(app, settings)
    binds = [*settings.binds, settings.admin_bind or ""]
    with (
        owning_sigint(),
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        no_socket_files(binds),
        ExitStack() as last_resort,
    ):
        node = _Node(app, cluster, settings, last_resort, interactive=interactive)
        async with trio.open_nursery() as whole:
            whole.start_soon(node.heed, signals, whole.cancel_scope)
            async with _joined(cluster), app.running(), trio.open_nursery() as nursery:
                try:
                    front = await node.open(nursery)
                    if announce is not None:
                        announce(front.urls)
                    await node.until_drained()
                    await farewell(app, cluster)
                    await front.stop()
                except BaseException as error:
                    node.fail(error)
                    raise
                nursery.cancel_scope.cancel("stopped")
            whole.cancel_scope.cancel("stopped")
    return node.code


class _Node:
    """Why it stops, when it has to be over, and the code it exits with."""

    def __init__(
        self, app: HttpApp, cluster: Cluster | None, settings: Settings, last_resort: ExitStack, *, interactive: bool
    ) -> None:
        self.code = 0
        self._app = app
        self._cluster = cluster
        self._settings = settings
        self._last_resort = last_resort
        self._interactive = interactive
        self._ready = False
        self._stopping = False
        self._asked_to_drain = trio.Event()
        self._first_signal: int | None = None
        self._draining = trio.CancelScope()

    async def heed(self, signals: AsyncIterator[int], whole: trio.CancelScope) -> None:
        """The first signal ends a start that waits for something, or begins the drain; the second stops at once.

        The admin's drain is no signal: whoever asks for it (a preStop hook) sends the first one behind it.
        """
        self._first_signal = await anext(signals)
        if not self._ready:
            self._end_within(self._window())
            whole.cancel("a signal came before the node was ready")
        self._asked_to_drain.set()
        self.code = 128 + await anext(signals)
        self._end_within(0)
        self._draining.cancel("a second signal came")

    async def open(self, nursery: trio.Nursery) -> Front:
        """Everything that listens."""
        nursery.start_soon(watch_vitals, self._app.service)
        front = await open_front(nursery, self._app, self._settings)
        if self._settings.admin_bind is not None:
            listeners = await listen([self._settings.admin_bind])
            serve_admin = partial(serve_asgi, limits=Limits(connections=ADMIN_CONNECTIONS))
            await nursery.start(serve_admin, self._admin_app(self._settings.admin_bind), listeners)
        if self._cluster is not None:
            nursery.start_soon(self._join, self._cluster, front.urls)
        self._ready = True
        return front

    def _admin_app(self, bind: str) -> AdminApp:
        # No page reaches a Unix socket, and what is said of its Host means nothing.
        hosts = ("*",) if bind.startswith("unix:") else self._settings.admin_hosts
        return AdminApp(self._app, self._asked_to_drain, hosts=hosts)

    async def _join(self, cluster: Cluster, urls: list[str]) -> None:
        await cluster.join(await advertised_url(self._settings, urls))
        await cluster.doubled.wait()
        self.code = 1
        self._asked_to_drain.set()

    async def until_drained(self) -> None:
        """Wait for a reason to stop, then drain.

        What is left of the window when nothing is left to drain belongs to the cleanup of the user's lifespan.
        """
        await self._asked_to_drain.wait()
        delay = 0.0 if self._interrupted else self._settings.drain_delay_seconds
        ends_at = trio.current_time() + delay + self._window()
        with self._draining:
            await drain(self._app, self._window(), delay=delay, cluster=self._cluster)
        self._end_within(max(0, ends_at - trio.current_time()))

    def fail(self, error: BaseException) -> None:
        """Something the node runs has crashed, the user's lifespan perhaps: handlers must not hold up its end either."""
        if self._stopping:
            return
        if isinstance(error, trio.Cancelled):
            # Should the last resort be needed, this line is all that is ever said of the crash.
            event(logger, logging.ERROR, "the node fails", why=str(error))
        self.code = 1
        self._end_within(self._settings.drain_timeout)

    def _window(self) -> float:
        window = self._settings.drain_timeout
        return min(INTERACTIVE_WINDOW, window) if self._interrupted else window

    @property
    def _interrupted(self) -> bool:
        """Whether somebody at a terminal waits for their prompt."""
        return self._first_signal == signal.SIGINT and self._interactive

    def _end_within(self, seconds: float) -> None:
        self._stopping = True
        grace = LAST_RESORT_SECONDS + (GOODBYE_SECONDS if self._cluster is not None else 0.0)
        self._last_resort.enter_context(no_longer_than(seconds + grace, self.code, lambda: _still_running(self._app)))


@asynccontextmanager
async def _joined(cluster: Cluster | None) -> AsyncIterator[None]:
    """The cluster's tasks outlive the sessions: their ends are to be recorded."""
    if cluster is None:
        yield
    else:
        async with cluster.running():
            yield


def _still_running(app: HttpApp) -> list[str]:
    return [f"{call.method} {call.params.get('name', '')}".strip() for call in list(app.service.in_flight)]
