"""The bytes of one connection: a port, and its adapter for Linux sockets.

`SocketWire` works on the bare non-blocking socket: it tries the system call first and waits only when the kernel says so, which
saves a pass through the scheduler per call. `Hangups` reports a client's disconnect while nothing is read, so that one task per
connection is enough:

    sockets ──EPOLLRDHUP──▶ our epoll ──readable──▶ Trio's epoll ──▶ Hangups.run ──▶ callback

A task per connection that only waits for the end of the stream would cost every exchange two scheduler passes. The kernel can wait
instead: edge-triggered, a registered socket costs nothing until its client closes, resets or times out, and bytes that have not been
read do not hide it.

What is not a socket, or not on Linux, uses `stream_wire`.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

import trio
from trio.socket import SocketType

__all__ = [
    "RESET_ON_CLOSE",
    "Address",
    "ClientDisconnected",
    "ClientStalled",
    "Hangups",
    "SocketWire",
    "Wire",
    "client_of",
    "server_of",
]

Address: TypeAlias = tuple[str, int | None]
"""Host and port, or a Unix socket's path and None."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing drops what is unsent and resets the connection."""


class ClientDisconnected(OSError):
    """The client closed, reset or stopped reading the connection; an app's `send` raises it."""


class ClientStalled(ClientDisconnected):
    """The client read no byte within the write deadline."""


def _nothing(count: int) -> None:
    pass


class Wire(Protocol):
    """The bytes of one connection; methods raise ClientDisconnected once the client is gone."""

    client: Address | None
    server: Address | None

    def on_hangup(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the client closes or resets, also while nothing is being read. May call it more than once."""

    async def receive(self) -> bytes:
        """Wait for bytes; empty when the client sends no more."""

    def receive_now(self) -> bytes | None:
        """The bytes that have come already; None when there are none."""

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes without waiting; the number of bytes it took."""

    async def send_all(self, data: bytes | memoryview, moved: Callable[[int], None] = _nothing) -> None:
        """Send everything; raises ClientStalled when the client reads no byte for the write deadline.

        `moved` is called with the number of bytes of each piece that was taken.
        """

    def stop_reading(self) -> None:
        """`receive` returns what has come already, then nothing; one that waits is woken."""

    def wake(self) -> None:
        """A `receive` that waits now raises trio.ClosedResourceError, where the wire is a plain socket; nothing is closed."""

    async def finish_sending(self) -> None:
        """Close the sending half, where the transport has halves."""

    def abort(self) -> None:
        """Have `close` reset the connection, so that it does not look like a clean end."""

    async def close(self) -> None:
        """Close the connection; never raises ClientDisconnected."""


class SocketWire:
    """A connected, non-blocking stream socket, which it owns.

    `ends`: for one that another process has served before, the addresses of client and server.
    """

    __slots__ = ("_ends_here", "_hangups", "_how", "_read_size", "_socket", "_write_seconds", "client", "server")

    def __init__(
        self,
        connected: socket.socket,
        hangups: Hangups,
        *,
        read_size: int,
        write_seconds: float,
        ends: tuple[Address | None, Address | None] | None = None,
    ) -> None:
        self._socket = connected
        self._hangups = hangups
        self._read_size = read_size
        self._write_seconds = write_seconds
        self._ends_here = ends is not None
        """Whether `close` has to end the connection, because other processes may have descriptors of it."""
        self._how = socket.SHUT_RDWR
        self.client: Address | None
        self.server: Address | None
        self.client, self.server = (client_of(connected), server_of(connected)) if ends is None else ends

    def on_hangup(self, callback: Callable[[], None]) -> None:
        self._hangups.add(self._socket.fileno(), callback)

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            data = self.receive_now()
            if data is not None:
                return data

    def receive_now(self) -> bytes | None:
        try:
            return self._socket.recv(self._read_size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ClientDisconnected(f"receiving failed: {error}") from None

    def send_now(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientDisconnected(f"sending failed: {error}") from None

    async def send_all(self, data: bytes | memoryview, moved: Callable[[int], None] = _nothing) -> None:
        left = memoryview(data)
        while left:
            with trio.move_on_after(self._write_seconds) as deadline:
                await trio.lowlevel.wait_writable(self._socket)
            if deadline.cancelled_caught:
                raise ClientStalled(f"the client took no byte for {self._write_seconds:g} s")
            sent = self.send_now(left)
            moved(sent)
            left = left[sent:]

    def stop_reading(self) -> None:
        # OSError: not connected any more, and reading ends by itself.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    @property
    def socket(self) -> socket.socket:
        """For a process that takes the connection over."""
        return self._socket

    def wake(self) -> None:
        trio.lowlevel.notify_closing(self._socket)

    def release(self) -> None:
        """Give up the socket, without closing it: neither epoll has it any more."""
        self._hangups.discard(self._socket.fileno())
        trio.lowlevel.notify_closing(self._socket)

    async def finish_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ClientDisconnected(f"closing failed: {error}") from None

    def abort(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        # It tells the client nothing, and has other processes close their descriptors: the last one resets the connection.
        self._how = socket.SHUT_RD

    async def close(self) -> None:
        self.release()
        if self._ends_here:
            # OSError: not connected any more.
            with suppress(OSError):
                self._socket.shutdown(self._how)
        self._socket.close()


class Hangups:
    """Calls back when clients hang up; Linux only."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Have `run` call `callback` when the client of `fd` hangs up; never before this returns."""
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
        self._callbacks[fd] = callback

    def discard(self, fd: int) -> None:
        """To be called before `fd` is closed, because its number will be used again."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Call the callbacks until cancelled; they must not block or raise."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()

    def close(self) -> None:
        """Close the epoll, after every `discard`."""
        self._epoll.close()


def client_of(connected: socket.socket | SocketType) -> Address | None:
    """The client's address; None when it has none (a Unix socket's client), or has gone already."""
    with suppress(OSError):
        return _address(connected.getpeername())
    return None


def server_of(connected: socket.socket | SocketType) -> Address | None:
    """The address of our own end; None in the same cases."""
    with suppress(OSError):
        return _address(connected.getsockname())
    return None


def _address(name: object) -> Address | None:
    match name:
        case (str() as host, int() as port, *_):
            return (host, port)
        case str() as path if path:
            # A path that is no UTF-8 has surrogates in Python, which no message to another worker can carry.
            return (path.encode(errors="replace").decode(), None)
    return None
