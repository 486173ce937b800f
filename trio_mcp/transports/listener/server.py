"""The HTTP server: accepts connections, bounds their number, and owns their tasks."""

from __future__ import annotations

import errno
import logging
import math
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from trio_mcp.streams.account import Account
from trio_mcp.transports.asgi import ASGIApp
from trio_mcp.transports.carrier import DirectApp
from trio_mcp.transports.listener.connection import Connection, Shared
from trio_mcp.transports.listener.eviction import IdleConnections, Lingering, OpenConnections
from trio_mcp.transports.listener.exchange import Exchange
from trio_mcp.transports.listener.limits import Limits
from trio_mcp.transports.listener.moving import Moved, Mover
from trio_mcp.transports.listener.parking import Parking
from trio_mcp.transports.listener.stream_wire import StreamWire
from trio_mcp.transports.listener.wire import Address, Hangups, SocketWire, Wire

__all__ = ["Listener", "serve"]

DEFAULT_LIMITS = Limits()

Listener = trio.abc.Listener[Any]

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What `accept` raises when the process or the machine is short. (Trio itself goes on after a connection that failed.)"""
HAS_EPOLL = sys.platform == "linux"
"""Without epoll, sockets are served like any other stream, which is slower."""
REFUSED_AT_ONCE = 8
"""How many connections beyond the bound may be there, to be refused or to linger; beyond that the oldest that lingers is ended."""
ACCEPT_RETRY_SECONDS = 0.1
"""Before accepting again when descriptors are used up: they come back when connections end."""

SILENT_SECONDS = 60.0
"""Between two log lines about accepts that fail: where descriptors are short, accepting fails and succeeds in turn."""

UNSENT_BYTES = 128 * 1024
"""The kernel buffers at most so much unsent data of a connection: more would be memory that is not counted, and would hide how slow a
client is."""

logger: logging.Logger = logging.getLogger(__name__)


def _untold(status: int, reason: str) -> None:
    """The default of `refused`."""


async def serve(
    app: ASGIApp,
    listeners: Sequence[Listener],
    *,
    limits: Limits = DEFAULT_LIMITS,
    account: Account | None = None,
    stopping: trio.Event | None = None,
    refused: Callable[[int, str], None] = _untold,
    mover: Mover | None = None,
    direct: DirectApp | None = None,
    task_status: trio.TaskStatus[Sequence[Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on `listeners`, which it closes, until cancelled.

    Once `stopping` is set it accepts no more, closes idle connections at once, answers running requests with
    `Connection: close`, and returns when the last connection has ended. `app` gets no lifespan events.

    `refused` is called with the status and reason of each answer that is the listener's own. `account` counts the bytes that clients
    have not read yet. `mover` takes connections to other processes. `direct` is the same app where it also takes requests without ASGI.
    """
    stopping = trio.Event() if stopping is None else stopping
    await _Server(app, direct, limits, refused, account or Account(), stopping, mover).run(listeners, task_status)


def _websockets(limits: Limits) -> Callable[[ASGIApp, Exchange], Awaitable[None]] | None:
    if not limits.websockets:
        return None
    # Only then, for trio-websocket takes a while to import.
    from trio_mcp.transports.listener.websocket import serve_websocket

    return serve_websocket


class _Server:
    def __init__(
        self,
        app: ASGIApp,
        direct: DirectApp | None,
        limits: Limits,
        refused: Callable[[int, str], None],
        account: Account,
        stopping: trio.Event,
        mover: Mover | None,
    ) -> None:
        self._limits = limits
        self._idle = IdleConnections(limits.idle_seconds)
        self._open = OpenConnections(limits.connections)
        self._lingering = Lingering(self._open.changed.unpark_all)
        self._mover = mover
        self._silent_until = -math.inf
        self._shared = Shared(
            app,
            direct,
            limits,
            self._idle,
            self._lingering,
            refused,
            _websockets(limits),
            account=account,
            stopping=stopping,
        )
        self._hangups = Hangups() if HAS_EPOLL else None

    async def run(self, listeners: Sequence[Listener], task_status: trio.TaskStatus[Sequence[Listener]]) -> None:
        try:
            async with trio.open_nursery() as service:
                service.start_soon(self._idle.run)
                if self._hangups is not None:
                    service.start_soon(self._hangups.run)
                await self._serve(listeners, task_status)
                service.cancel_scope.cancel("the last connection has ended")
        finally:
            if self._hangups is not None:
                self._hangups.close()

    async def _serve(self, listeners: Sequence[Listener], task_status: trio.TaskStatus[Sequence[Listener]]) -> None:
        async with trio.open_nursery() as connections, self._moving(connections):
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                task_status.started(listeners)
                await self._shared.stopping.wait()
                accepting.cancel_scope.cancel("the server stops")
            self._idle.dismiss_all()

    @asynccontextmanager
    async def _moving(self, connections: trio.Nursery) -> AsyncIterator[None]:
        """Serve in `connections` what comes from other processes, and what was sent there in vain."""
        mover = self._mover
        if mover is None:
            yield
            return
        parking = Parking(mover, self._open, lambda *given: connections.start_soon(self._serve_moved, *given))
        self._shared.parking = parking
        mover.serve_with(parking)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(parking.run)
                nursery.start_soon(self._have_idle_leave, mover.departing, parking)
                yield
                parking.take_no_more()
                await mover.settled()
                nursery.cancel_scope.cancel("the server stops")
        finally:
            mover.serve_with(None)

    async def _have_idle_leave(self, departing: trio.Event, parking: Parking) -> None:
        await departing.wait()
        parking.park_no_more()
        self._idle.leave_all()

    async def _accept(self, listener: Listener, connections: trio.Nursery) -> None:
        async with listener:
            while True:
                while self._open.beyond(REFUSED_AT_ONCE):
                    self._lingering.end_oldest()
                    await self._open.changed.park()
                try:
                    stream = await listener.accept()
                except OSError as error:
                    await self._recover(error)
                else:
                    self._open.begin()
                    if self._shared.parking is not None:
                        self._shared.parking.make_room()
                    full = self._open.beyond(1, but=len(self._lingering)) and not self._idle.dismiss_oldest()
                    connections.start_soon(self._connection, stream, full)

    async def _recover(self, error: OSError) -> None:
        """After an accept that failed: free a descriptor and wait, or raise `error` when the listener cannot go on."""
        if error.errno not in _OUT_OF_RESOURCES:
            raise error
        if self._shared.parking is not None:
            self._shared.parking.release_parked()
        if not self._lingering.end_oldest():
            self._idle.dismiss_oldest()
        if trio.current_time() >= self._silent_until:
            self._silent_until = trio.current_time() + SILENT_SECONDS
            logger.error("Cannot accept connections, trying on: %s. See ulimit -n, and --max-connections", error)
        await trio.sleep(ACCEPT_RETRY_SECONDS)

    async def _connection(self, accepted: trio.abc.Stream, full: bool) -> None:
        if self._hangups is not None and isinstance(accepted, trio.SocketStream):
            await self._run(self._socket_wire(accepted, self._hangups), full=full)
            return
        pumped = self._stream_wire(accepted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pumped.pump)
            await self._run(pumped, full=full)
            nursery.cancel_scope.cancel("the connection has ended")

    async def _serve_moved(self, moved: Moved, connected: socket.socket) -> None:
        assert self._hangups is not None, "connections move where there is epoll"
        await self._run(self._wire(connected, self._hangups, (moved.client, moved.server)), moved=moved)

    async def _run(self, wire: Wire, *, full: bool = False, moved: Moved | None = None) -> None:
        connection = Connection(self._shared, wire, full=full, moved=moved)
        try:
            await connection.run()
        finally:
            if not connection.is_away:
                self._open.end()

    def _socket_wire(self, stream: trio.SocketStream, hangups: Hangups) -> SocketWire:
        connected = socket.socket(fileno=stream.socket.detach())
        connected.setblocking(False)
        # Trio has set TCP_NODELAY. Set on each connection, because one that connected early would not inherit it.
        if connected.family != socket.AF_UNIX:
            milliseconds = int(self._limits.tcp_user_timeout_seconds * 1000)
            with suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        return self._wire(connected, hangups)

    def _wire(
        self, connected: socket.socket, hangups: Hangups, ends: tuple[Address | None, Address | None] | None = None
    ) -> SocketWire:
        return SocketWire(
            connected,
            hangups,
            read_size=self._limits.pipelined_bytes,
            write_seconds=self._limits.write_seconds,
            ends=ends,
        )

    def _stream_wire(self, stream: trio.abc.Stream) -> StreamWire:
        return StreamWire(stream, read_size=self._limits.pipelined_bytes, write_seconds=self._limits.write_seconds)
