"""One node: signals, readiness, the listeners, and the order in which it all ends."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.observability.logs import event
from trio_mcp.server import MCPServer
from trio_mcp.serving.admin import AdminApp
from trio_mcp.serving.composition import build_app, build_cluster
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.serving.front import Front, advertised_url, listen, no_socket_files, open_front
from trio_mcp.serving.last_resort import LastResort
from trio_mcp.serving.loop_monitor import watch_vitals
from trio_mcp.serving.process_limits import ADMIN_CONNECTIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.signals import handling_signals
from trio_mcp.serving.stop_deadlines import StopDeadlines
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.stop_times import (
    CANCELLED_CALLS_SECONDS,
    CLUSTER_EXIT_SECONDS,
    INTERACTIVE_WINDOW_SECONDS,
    StopTimes,
)
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Limits
from trio_mcp.transports.listener import serve as serve_asgi

if TYPE_CHECKING:
    from trio_mcp.cluster.cluster import Cluster

__all__ = ["serve"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")


async def serve(
    server: MCPServer,
    settings: Settings,
    *,
    announce: Callable[[list[str]], None] | None = None,
    interactive: bool = False,
    owns_process: bool = False,
) -> int:
    """Serve over HTTP until SIGTERM, SIGINT, SIGHUP, SIGQUIT or the admin's drain; the exit code: 0, or 1 if the cleanup was cut.

    A second signal ends the process at once. `announce` is called with the URLs once they answer. With `owns_process` the
    process is to end behind it: threads that run on are not waited for longer than a cleanup may take. Raises CannotListen, in a
    group.
    """
    app = build_app(server, settings)
    cluster = build_cluster(app, settings)
    binds = [*settings.binds, settings.admin_bind or ""]
    deadlines = StopDeadlines(
        LastResort(lambda: _still_running(app)),
        has_lifespan=server.has_lifespan,
        cleanup=settings.cleanup_timeout,
        goodbye=CLUSTER_EXIT_SECONDS if cluster is not None else 0.0,
    )
    node = _Node(app, cluster, settings, deadlines, interactive=interactive)
    with owning_sigint(), handling_signals(node.heed, keep=owns_process), no_socket_files(binds):
        try:
            async with trio.open_nursery() as node.whole:
                async with (
                    _joined(cluster),
                    _cleaned_up(deadlines),
                    app.running(deadlines.lifespan),
                    trio.open_nursery() as nursery,
                ):
                    await node.run(nursery, announce)
        finally:
            deadlines.over(process_ends=owns_process)
    return deadlines.code


class _Node:
    """Why it stops, and when its drain has to be over."""

    def __init__(
        self, app: HttpApp, cluster: Cluster | None, settings: Settings, deadlines: StopDeadlines, *, interactive: bool
    ) -> None:
        self.whole: trio.Nursery | None = None
        self._app = app
        self._cluster = cluster
        self._settings = settings
        self._deadlines = deadlines
        self._interactive = interactive
        self._loop = trio.lowlevel.current_trio_token()
        self._stop_asked = trio.Event()
        self._first_signal: int | None = None

    def heed(self, number: int) -> None:
        """A stop signal, within its handler: ends a start that waits for something, or begins the drain.

        The admin's drain is no signal: whoever asks for it (a preStop hook) sends the first one behind it.
        """
        self._first_signal = self._first_signal or number
        self._deadlines.begin(self._stop_times.whole)
        self._loop.run_sync_soon(self._heeded)

    def _heeded(self) -> None:
        if not self._deadlines.is_serving and self.whole is not None:
            self.whole.cancel_scope.cancel("a signal came before the node was ready")
        self._stop_asked.set()

    def drain(self) -> None:
        """Asked to stop by the admin, or by a process that has this node's id: from here on the clock runs."""
        self._deadlines.begin(self._stop_times.whole)
        self._stop_asked.set()

    async def run(self, nursery: trio.Nursery, announce: Callable[[list[str]], None] | None) -> None:
        """Listen, serve, drain; ends what runs in `nursery`."""
        try:
            front = await self._open(nursery)
            if announce is not None:
                announce(front.urls)
            await self._until_drained()
            await end_remaining(self._app, self._cluster)
            self._app.life.enter(NodeState.STOPPING)
            await front.stop()
        except BaseException as error:
            self._fail(error)
            raise
        nursery.cancel_scope.cancel("stopped")

    async def _open(self, nursery: trio.Nursery) -> Front:
        """Everything that listens."""
        nursery.start_soon(watch_vitals, self._app.service)
        front = await open_front(nursery, self._app, self._settings)
        if self._settings.admin_bind is not None:
            listeners = await listen([self._settings.admin_bind])
            serve_admin = partial(
                serve_asgi,
                limits=Limits(connections=ADMIN_CONNECTIONS),
                refused=self._app.service.refusals.note,
            )
            await nursery.start(serve_admin, self._admin_app(self._settings.admin_bind), listeners)
        if self._cluster is not None:
            nursery.start_soon(self._join, self._cluster, front.urls)
        self._deadlines.serving()
        return front

    def _admin_app(self, bind: str) -> AdminApp:
        # No page reaches a Unix socket, and what is said of its Host means nothing.
        hosts = ("*",) if bind.startswith("unix:") else self._settings.admin_hosts
        return AdminApp(self._app, self.drain, hosts=hosts)

    async def _join(self, cluster: Cluster, urls: list[str]) -> None:
        await cluster.join(await advertised_url(self._settings, urls))
        await cluster.doubled.wait()
        self._deadlines.code = 1
        self.drain()

    async def _until_drained(self) -> None:
        """Wait for a reason to stop, then drain."""
        await self._stop_asked.wait()
        times = self._stop_times
        await drain(self._app, times.window, delay=times.delay, cluster=self._cluster)
        self._deadlines.end_calls()

    def _fail(self, error: BaseException) -> None:
        """Something the node runs has crashed, the user's lifespan perhaps: handlers must not hold up its end either."""
        if self.whole is not None and self.whole.cancel_scope.cancel_called:
            # A signal ended the start, which is no failure, wherever it met it.
            return
        if not self._deadlines.begun and isinstance(error, trio.Cancelled):
            # Should the last resort be needed, this line is all that is ever said of the crash.
            event(logger, logging.ERROR, "the node fails", why=str(error))
        self._deadlines.fail(self._settings.drain_timeout + CANCELLED_CALLS_SECONDS)

    @property
    def _stop_times(self) -> StopTimes:
        settings = self._settings
        if self._first_signal == signal.SIGINT and self._interactive:
            # Somebody at a terminal waits for their prompt.
            return StopTimes(0.0, min(INTERACTIVE_WINDOW_SECONDS, settings.drain_timeout), settings.cleanup_timeout)
        return StopTimes(settings.drain_delay_seconds, settings.drain_timeout, settings.cleanup_timeout)


@asynccontextmanager
async def _joined(cluster: Cluster | None) -> AsyncIterator[None]:
    """The cluster's tasks outlive the sessions: their ends are to be recorded."""
    if cluster is None:
        yield
    else:
        async with cluster.running():
            yield


@asynccontextmanager
async def _cleaned_up(deadlines: StopDeadlines) -> AsyncIterator[None]:
    yield
    deadlines.cleaned_up()


def _still_running(app: HttpApp) -> list[str]:
    return [call.label for call in list(app.service.in_flight)]
