"""Connections to peers: how one is made from a URL, and how they are kept between requests."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

__all__ = ["Connection", "Pool", "connect", "connect_local", "host_of"]

READ_BYTES = 64 * 1024


class Connection:
    """Owns a connected, non-blocking socket. One task uses it at a time."""

    __slots__ = ("_socket", "idle_since", "url")

    def __init__(self, connected: socket.socket, url: str) -> None:
        self._socket = connected
        self.url: str = url
        self.idle_since: float = 0.0

    def send_now(self, data: bytes | memoryview) -> int:
        """Send without waiting; the number of bytes that the kernel took, perhaps 0. Raises OSError when the peer is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def receive_now(self) -> bytes | None:
        """Receive without waiting; None when nothing has arrived, b"" when the peer has ended. Raises OSError."""
        try:
            return self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None

    async def receive(self) -> bytes:
        """Wait for bytes; b"" when the peer has ended. Raises OSError when it is gone."""
        while True:
            await self.readable()
            data = self.receive_now()
            if data is not None:
                return data

    async def writable(self) -> None:
        """Wait until the kernel takes bytes."""
        await trio.lowlevel.wait_writable(self._socket)

    async def readable(self) -> None:
        """Wait until something has arrived, perhaps the end."""
        await trio.lowlevel.wait_readable(self._socket)

    def wake(self) -> None:
        """Have a wait for it raise trio.ClosedResourceError; nothing is closed."""
        trio.lowlevel.notify_closing(self._socket)

    def is_quiet(self) -> bool:
        """Whether nothing is there to be read, not even the peer's end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close at once; the peer sees that its client leaves."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class Pool:
    """Idle connections, by URL of the peer: `max_idle` of each at most, for `idle_timeout` seconds. `connect_timeout` is in seconds.

    No task runs for it: `keep` closes, every `idle_timeout` seconds, what has been idle for too long.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        idle_timeout: float,
        max_idle: int,
        is_local: Callable[[str], bool] = lambda url: False,
    ) -> None:
        """`is_local` tells the URLs of workers of this node, `unix:/path`."""
        self._is_local = is_local
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._idle: dict[str, list[Connection]] = {}
        self._next_sweep = 0.0
        self._closed = False

    def kept(self, url: str) -> Connection | None:
        """The idle connection used last that is neither too old nor closed by the peer; None when there is none."""
        waiting = self._idle.get(url)
        oldest = trio.current_time() - self._idle_timeout
        while waiting:
            connection = waiting.pop()
            if connection.idle_since >= oldest and connection.is_quiet():
                return connection
            connection.close()
        return None

    async def open(self, url: str) -> Connection:
        """A new connection. Raises ConnectionRefusedError when no process listens there, else OSError."""
        connected = await (connect_local(url) if self._is_local(url) else connect(url, self._connect_timeout))
        return Connection(connected, url)

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose response is complete and that may serve another request."""
        now = trio.current_time()
        if now >= self._next_sweep:
            self._sweep(now)
        waiting = self._idle.get(connection.url)
        if waiting is None:
            waiting = self._idle[connection.url] = []
        if self._closed or len(waiting) >= self._max_idle:
            return connection.close()
        connection.idle_since = now
        waiting.append(connection)

    def close(self) -> None:
        """Close all that are idle, and from now on each that is brought back."""
        self._closed = True
        for waiting in self._idle.values():
            for connection in waiting:
                connection.close()
        self._idle.clear()

    def _sweep(self, now: float) -> None:
        """Close what is too old, also connections to peers that are no longer used."""
        self._next_sweep = now + self._idle_timeout
        for url, waiting in list(self._idle.items()):
            # The last used is at the end, so the old ones are in front.
            while waiting and waiting[0].idle_since < now - self._idle_timeout:
                waiting.pop(0).close()
            if not waiting:
                del self._idle[url]


# Connecting.

_OF_CONNECTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    # ms. A host that lost its power acknowledges nothing: a send fails after this time, not after 15 minutes.
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
    # While only the peer sends, a firewall may drop the connection unseen: the kernel asks for a sign of life.
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
)
"""Level, option, value; not every system has all of them."""
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?")
_SHORT_ADDRESS = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+)){0,2}")
"""Resolvers take 2130706433 for 127.0.0.1. A peer URL may be made of a session id, so that a client could choose the address."""

MAX_LOOKUPS = 16
"""Threads that wait for a resolver at the same time. One that is given up counts until the resolver answers."""

_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("lookups")


def _lookups() -> trio.CapacityLimiter:
    """A limiter of their own, so that a slow resolver delays nothing but connections to peers."""
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(trio.CapacityLimiter(MAX_LOOKUPS))
        return _limiter.get()


async def connect(url: str, seconds: float) -> socket.socket:
    """A non-blocking socket connected to `http://host:port` within `seconds`.

    Raises ConnectionRefusedError when no process listens at any address of the host, else OSError.
    """
    host, port = _address(url)
    with trio.move_on_after(seconds):
        return await _connect_to_any(host, port)
    raise TimeoutError(f"{url} did not take the connection within {seconds:g} s")


async def connect_local(url: str) -> socket.socket:
    """A non-blocking socket connected to `unix:/path`. Raises ConnectionRefusedError when no process listens there, else OSError."""
    await trio.lowlevel.checkpoint()
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        # It connects at once, or fails with EAGAIN when the other process accepts too slowly.
        connecting.connect(url.removeprefix("unix:"))
    except FileNotFoundError as error:
        connecting.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the process has removed its socket", url) from error
    except BaseException:
        connecting.close()
        raise
    return connecting


def host_of(url: str) -> bytes:
    """What a Host header says of a URL that `connect` took; of `connect_local`, empty."""
    return urlsplit(url).netloc.encode()


def _address(url: str) -> tuple[str, int]:
    # A URL may come from a peer or from Redis. Whatever it is, it fails as a peer does that cannot be reached.
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        named = _HOST.fullmatch(host) and not _SHORT_ADDRESS.fullmatch(host)
        if parts.scheme == "http" and named and parts.username is None:
            return host, 80 if parts.port is None else parts.port
    raise OSError(errno.EINVAL, "a peer's URL has the form http://host:port", url)


async def _connect_to_any(host: str, port: int) -> socket.socket:
    """Raises the first error that is no refusal, else the refusal: with any other error, a process may listen there."""
    errors: list[OSError] = []
    for family, kind, protocol, _, address in await _resolve(host, port):
        try:
            return await _connect(socket.socket(family, kind, protocol), address)
        except OSError as error:
            errors.append(error)
    errors.sort(key=lambda error: isinstance(error, ConnectionRefusedError))
    raise errors[0]


async def _resolve(host: str, port: int) -> list[Any]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        pass
    else:
        return look_up()  # an address: no resolver is asked
    try:
        return await trio.to_thread.run_sync(look_up, limiter=_lookups(), abandon_on_cancel=True)
    except UnicodeError:
        raise OSError(errno.EINVAL, "not a host name", host) from None


async def _connect(connecting: socket.socket, address: Any) -> socket.socket:
    """Closes the socket when it raises."""
    try:
        connecting.setblocking(False)
        error = connecting.connect_ex(address)
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(connecting)
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        _settle(connecting)
    except BaseException:
        trio.lowlevel.notify_closing(connecting)
        connecting.close()
        raise
    return connecting


def _settle(connected: socket.socket) -> None:
    # The kernel may connect a socket to itself, when the port is free and local.
    if connected.getsockname() == connected.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    for level, option, value in _OF_CONNECTIONS:
        if hasattr(socket, option):
            connected.setsockopt(level, getattr(socket, option), value)
