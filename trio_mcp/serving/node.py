"""One node over HTTP: what it opens, what makes it stop, and in which order it stops."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import trio

from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.observability.logs import event
from trio_mcp.server import MCPServer
from trio_mcp.serving import systemd
from trio_mcp.serving.admin import AdminApp, OneProcess
from trio_mcp.serving.composition import build_app, build_cluster
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.serving.front import Front, advertised_url, listen, no_socket_files, open_front
from trio_mcp.serving.last_resort import LastResort
from trio_mcp.serving.loop_monitor import monitor_loop
from trio_mcp.serving.process_limits import ADMIN_CONNECTIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.signals import handling_signals
from trio_mcp.serving.stop_deadlines import StopDeadlines
from trio_mcp.serving.systemd import Notifier
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.stop_times import (
    ALONE_SECONDS,
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
    from trio_mcp.serving.workers.seat import Seat

__all__ = ["Announce", "serve"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

ACCEPTED_SECONDS = 1.0
"""For the first request on a connection that was accepted just before this worker stopped accepting."""

Announce: TypeAlias = Callable[[list[str], Sequence[str]], None]
"""Called with the URLs of the endpoint, which answer, and with what the node waits for before it is ready (`LifeCycle.missing`)."""

SETTLE_SECONDS = 1.0
"""A node that is not ready after this says where it answers, and that it is not. Keys and Redis are there sooner, as a rule."""


async def serve(
    server: MCPServer,
    settings: Settings,
    *,
    announce: Announce | None = None,
    interactive: bool = False,
    owns_process: bool = False,
    seat: Seat | None = None,
) -> int:
    """Serve `server` over HTTP until SIGTERM, SIGINT, SIGHUP, SIGQUIT or the admin's drain, and return the exit code.

    0, or 1 when the cleanup was cut short, something crashed, or another process has this node's id. A second signal ends the
    process at once. Raises CannotListen and CertificateError, in a group.

    `announce` is called when the node is ready, and before that once if it takes longer than SETTLE_SECONDS. `interactive`: Ctrl+C
    drains for INTERACTIVE_WINDOW_SECONDS only. `owns_process`: the process ends after this, so that threads which run on are waited
    for as long as a cleanup may take, and no longer. `seat`: this process is one worker of the node.
    """
    app = build_app(server, settings)
    cluster = build_cluster(app, settings) if seat is None else seat.cluster(app, settings)
    binds = [*settings.binds, settings.admin_bind or ""] if seat is None else []
    deadlines = StopDeadlines(
        LastResort(lambda: _still_running(app)),
        has_lifespan=server.has_lifespan,
        cleanup=settings.cleanup_timeout,
        cluster_exit=CLUSTER_EXIT_SECONDS if cluster is not None else 0.0,
    )
    manager = Notifier.taken_from() if owns_process else Notifier()
    node = _Node(app, cluster, settings, deadlines, interactive=interactive, seat=seat, manager=manager)
    node.may_be_cancelled = not owns_process
    with owning_sigint(), handling_signals(node.stop_on_signal, keep=owns_process), no_socket_files(binds):
        try:
            async with trio.open_nursery() as node.whole:
                async with (
                    seat.running(node) if seat is not None else nullcontext(),
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
    """Opens what listens, waits for a reason to stop, drains."""

    def __init__(
        self,
        app: HttpApp,
        cluster: Cluster | None,
        settings: Settings,
        deadlines: StopDeadlines,
        *,
        interactive: bool,
        seat: Seat | None = None,
        manager: Notifier,
    ) -> None:
        self.whole: trio.Nursery | None = None
        self.may_be_cancelled = False
        """Somebody else's code runs around the node, and may cancel it: that is how they stop it, and no failure."""
        self._app = app
        self._cluster = cluster
        self._settings = settings
        self._deadlines = deadlines
        self._interactive = interactive
        self._seat = seat
        self._manager = manager
        self._alone = False
        """No peer takes anything over: the workers of a node stop together."""
        self._replaced = False
        """Another worker of this node serves in this one's place."""
        self._loop = trio.lowlevel.current_trio_token()
        self._stop_asked = trio.Event()
        self._first_signal: int | None = None

    def stop_on_signal(self, number: int) -> None:
        """Called within the handler of the first stop signal, `number`: cancel the start, or begin the drain.

        A drain that the admin asked for is no signal: a preStop hook that asks for it is followed by the first SIGTERM.
        """
        self._first_signal = self._first_signal or number
        self._deadlines.begin(self._stop_times.whole)
        self._loop.run_sync_soon(self._stop_from_loop)

    def _stop_from_loop(self) -> None:
        if not self._deadlines.is_serving and self.whole is not None:
            self.whole.cancel_scope.cancel("a signal came before the node was ready")
        self._stop_asked.set()

    def drain(self) -> None:
        """Begin the drain without a signal: the admin asked for it, or an earlier process has this node's id."""
        self._deadlines.begin(self._stop_times.whole)
        self._stop_asked.set()

    def start_clock(self) -> None:
        """The process is to stop, and must end in time; how, a message says. Called within a signal handler."""
        self._deadlines.begin(self._stop_times.whole)

    def stop_alone(self, number: int) -> None:
        """The node of this worker was asked to stop by the signal `number`: drain, and leave nothing to its other workers."""
        self._alone = True
        self.stop_on_signal(number)

    def retire(self) -> None:
        """Another worker of this node has taken this one's place: drain, and leave sessions to the others."""
        self._replaced = True
        self.drain()

    async def run(self, nursery: trio.Nursery, announce: Announce | None) -> None:
        """Listen, serve, drain; cancels `nursery`, where all of it runs, at the end."""
        try:
            front = await self._open(nursery)
            if announce is not None:
                nursery.start_soon(self._announce, announce, front.urls)
            self._manager.tell(systemd.ready)
            await self._until_drained()
            await end_remaining(self._app, self._cluster, together=self._alone)
            self._app.life.enter(NodeState.STOPPING)
            await front.stop()
        except BaseException as error:
            self._fail(error)
            raise
        nursery.cancel_scope.cancel("stopped")

    async def _open(self, nursery: trio.Nursery) -> Front:
        """Open everything that listens, and begin to join the cluster."""
        nursery.start_soon(monitor_loop, self._app.service)
        nursery.start_soon(self._manager.keep_alive)
        front = await open_front(nursery, self._app, self._settings, self._seat)
        if self._settings.admin_bind is not None:
            listeners = await listen([self._settings.admin_bind], admin=True)
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

    async def _announce(self, announce: Announce, urls: list[str]) -> None:
        """A worker says only that it is ready: its supervisor announces the node, and leaves the old worker's clients to it."""
        life = self._app.life
        with trio.move_on_after(SETTLE_SECONDS if self._seat is None else math.inf):
            await life.may_claim()
        if life.missing:
            announce(urls, life.missing)
            await life.may_claim()
        if life.state is NodeState.READY:
            announce(urls, [])

    def _admin_app(self, bind: str) -> AdminApp:
        # No web page can reach a Unix socket, and its clients may send any Host.
        hosts = ("*",) if bind.startswith("unix:") else self._settings.admin_hosts
        token = self._settings.admin_token
        return AdminApp(
            OneProcess(self._app),
            self.drain,
            hosts=hosts,
            token=None if token is None else token.get_secret_value(),
        )

    async def _join(self, cluster: Cluster, urls: list[str]) -> None:
        seat = self._seat
        await cluster.join(await (advertised_url if seat is None else seat.peer_url)(self._settings, urls))
        await cluster.doubled.wait()
        self._deadlines.code = 1
        self.drain()

    async def _until_drained(self) -> None:
        """Wait until the node is asked to stop, then drain."""
        await self._stop_asked.wait()
        self._manager.tell(systemd.stopping)
        times = self._stop_times
        run = partial(drain, self._app, times.window, delay=times.delay, tasks=times.tasks)
        if self._seat is not None:
            run = partial(run, may_end=self._seat.may_end)
        await run(cluster=None if self._alone else self._cluster, balanced=not self._replaced)
        if self._seat is not None:
            self._seat.drained()
        alone = 0.0 if self._cluster is not None else ALONE_SECONDS
        self._deadlines.end_calls(CANCELLED_CALLS_SECONDS + alone)

    def _fail(self, error: BaseException) -> None:
        """Something the node runs has crashed, such as the user's lifespan: set a deadline, which handlers could exceed."""
        if self.whole is not None and self.whole.cancel_scope.cancel_called:
            # A signal cancelled the start: no failure, wherever the start was.
            return
        if self.may_be_cancelled and isinstance(error, trio.Cancelled) and error.source != "nursery":
            return
        if not self._deadlines.begun and isinstance(error, trio.Cancelled):
            # Logged now, because a process that is ended by force logs nothing of the crash.
            event(logger, logging.ERROR, "the node fails", why=error.reason or str(error))
        self._deadlines.fail(self._settings.drain_timeout + CANCELLED_CALLS_SECONDS)

    @property
    def _stop_times(self) -> StopTimes:
        settings = self._settings
        if self._replaced:
            # Where connections do not move, those that this process has just accepted bring their first request.
            delay = 0.0 if self._seat is not None and self._seat.moves is not None else ACCEPTED_SECONDS
            return StopTimes(delay, settings.drain_timeout, settings.cleanup_timeout, settings.task_drain_seconds)
        if self._first_signal == signal.SIGINT and self._interactive:
            # A person at a terminal waits for the prompt.
            return StopTimes(0.0, min(INTERACTIVE_WINDOW_SECONDS, settings.drain_timeout), settings.cleanup_timeout)
        delay, window, cleanup = settings.drain_delay_seconds, settings.drain_timeout, settings.cleanup_timeout
        return StopTimes(delay, window, cleanup, settings.task_drain_seconds)


@asynccontextmanager
async def _joined(cluster: Cluster | None) -> AsyncIterator[None]:
    """The cluster's tasks run longer than the sessions, whose ends they write to Redis."""
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
