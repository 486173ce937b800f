"""How a node is reached: its addresses opened, the HTTP server behind them, the URL its peers use."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import trio

from trio_mcp.observability.logs import event
from trio_mcp.serving.cannot_listen import CannotListen, cannot_listen
from trio_mcp.serving.process_limits import connection_limit
from trio_mcp.serving.settings import Settings
from trio_mcp.sessions.stop_times import CONNECTIONS_SECONDS
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Limits, Listener, open_listeners, remove_socket_files, serve

if TYPE_CHECKING:
    from trio_mcp.serving.workers.seat import Seat
    from trio_mcp.transports.listener.moving import Mover

__all__ = ["Front", "advertised_url", "listen", "no_socket_files", "open_front"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

_ANY = frozenset({"0.0.0.0", "::"})


async def listen(binds: Sequence[str], *, admin: bool = False) -> list[trio.SocketListener]:
    """Listen on every bind (`host:port`, `unix:/path`, `fd://3`); raises CannotListen, and then none is left open.

    `admin`: they are those of the admin listener.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for bind in binds:
            listeners += await _listen(bind, admin=admin)
    except CannotListen:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


@contextmanager
def no_socket_files(binds: Sequence[str]) -> Iterator[None]:
    """Remove the files of Unix sockets after the block: a client that finds one expects a server there."""
    try:
        yield
    finally:
        remove_socket_files(binds)


async def _listen(bind: str, *, admin: bool) -> list[trio.SocketListener]:
    try:
        return await open_listeners([bind])
    except (OSError, ValueError) as error:
        raise cannot_listen(bind, error, admin=admin) from error


class Front(Protocol):
    """The HTTP server of a node: it serves until its nursery is cancelled, or until `stop`."""

    urls: list[str]
    """URLs of the endpoint, one for each bind."""

    async def stop(self) -> None:
        """Close what is idle, now that the node's state is STOPPING; returns soon."""


async def open_front(nursery: trio.Nursery, app: HttpApp, settings: Settings, seat: Seat | None = None) -> Front:
    """Listen, and serve `app` in `nursery`; raises CannotListen or CertificateError, and then nothing is left open.

    With `seat` the listening sockets are those that the supervisor of this worker has opened.
    """
    if seat is not None:
        return await _worker_front(nursery, app, settings, seat)
    listeners = await listen(settings.binds)
    try:
        if settings.server == "hypercorn":
            return await _hypercorn(nursery, app, settings, listeners, listeners)
        return await _own_front(nursery, app, settings, listeners, listeners)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise


async def _worker_front(nursery: trio.Nursery, app: HttpApp, settings: Settings, seat: Seat) -> Front:
    """The node's sockets, and the one by which other workers relay to this one. Of Hypercorn's connections none moves."""
    public, shown, private = await seat.listeners()
    if settings.server == "own":
        return await _own_front(nursery, app, settings, [*public, *private], shown, seat.moves)
    front = await _hypercorn(nursery, app, settings, public, shown)
    return _Both(front, await _own_front(nursery, app, settings, private, ()))


async def _hypercorn(
    nursery: trio.Nursery,
    app: HttpApp,
    settings: Settings,
    listeners: Sequence[Listener],
    shown: Sequence[trio.SocketListener],
) -> Front:
    from trio_mcp.serving.hypercorn_front import HypercornFront

    sockets = [listener.socket for listener in shown]
    return await HypercornFront.open(
        nursery, app, settings, listeners, sockets, [_url(each, settings) for each in sockets]
    )


class _Both:
    """Hypercorn for clients, and our own server for other workers."""

    def __init__(self, front: Front, private: Front) -> None:
        self.urls = front.urls
        self._front = front
        self._private = private

    async def stop(self) -> None:
        await self._front.stop()
        await self._private.stop()


async def _own_front(
    nursery: trio.Nursery,
    app: HttpApp,
    settings: Settings,
    listeners: Sequence[Listener],
    shown: Sequence[trio.SocketListener],
    mover: Mover | None = None,
) -> Front:
    """Our own server on `listeners`; the URLs of the node are those of `shown`."""
    front = _OwnFront([_url(listener.socket, settings) for listener in shown], mover)
    await nursery.start(front.run, app, listeners, _limits(app, settings))
    return front


class _OwnFront:
    def __init__(self, urls: list[str], mover: Mover | None) -> None:
        self.urls = urls
        self._mover = mover
        self._stopped = trio.Event()

    async def run(
        self,
        app: HttpApp,
        listeners: Sequence[Listener],
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
                mover=self._mover,
                direct=app,
                task_status=task_status,
            )
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        with trio.move_on_after(CONNECTIONS_SECONDS):
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
        websockets=settings.websocket,
        ping_seconds=settings.keepalive,
    )


def _url(listening: trio.socket.SocketType, settings: Settings) -> str:
    scheme = "https" if settings.certfile else "http"
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}{settings.path}"


async def advertised_url(settings: Settings, urls: Sequence[str]) -> str:
    """Where peers reach this node, `http://host:port`: as set, from POD_IP, or an address of `urls`, which are served.

    Empty, with a warning in the log, when there is none.
    """
    if settings.advertise_url is not None:
        return settings.advertise_url.rstrip("/")
    served = [urlsplit(url) for url in urls if url.startswith("http://")]
    if served:
        host, port = served[0].hostname or "", served[0].port
        address = os.environ.get("POD_IP") or (await _own_address() if host in _ANY else host)
        if address:
            return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    event(logger, logging.WARNING, "peers cannot reach this node", flag="--advertise-url")
    return ""


async def _own_address() -> str:
    """The address that this host's name resolves to; empty when it resolves to none."""
    try:
        found = await trio.socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    return str(found[0][4][0])
