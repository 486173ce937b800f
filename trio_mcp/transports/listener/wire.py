"""The bytes of one connection: a port, and its adapter for Linux sockets.

`SocketWire` works on the bare non-blocking socket: it tries the system call first and waits only when the kernel says so, which
saves a pass through the scheduler per call. `Hangups` tells it of a peer's disconnect while nobody reads, so that one task per
connection is enough:

    sockets ──EPOLLRDHUP──▶ our epoll ──readable──▶ Trio's epoll ──▶ Hangups.run ──▶ callback

A task per connection that only waits for the end of the stream would cost every exchange two scheduler passes. The kernel can wait
instead: edge-triggered, a registered socket costs nothing until its peer closes, resets or times out, and bytes that have not been
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
    """The peer closed, reset or stopped reading; `send` raises it."""


class ClientStalled(ClientDisconnected):
    """The peer took no byte within the write deadline."""


def _nothing(count: int) -> None:
    pass


class Wire(Protocol):
    """One connection's bytes; every method raises ClientDisconnected once the peer is gone."""

    client: Address | None
    server: Address | None

    def on_hangup(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the peer closes or resets, also while nobody reads. May call more than once."""

    async def receive(self) -> bytes:
        """Wait for bytes; empty when the peer will send no more."""

    def receive_now(self) -> bytes | None:
        """Bytes that are here already; None when there are none."""

    def send_now(self, data: bytes | memoryview) -> int:
        """Hand over what fits without waiting; the number of bytes taken."""

    async def send_all(self, data: bytes | memoryview, moved: Callable[[int], None] = _nothing) -> None:
        """Hand over everything; raises ClientStalled when the peer takes no byte for the write deadline.

        `moved` hears of every piece the peer has taken, in bytes.
        """

    def stop_reading(self) -> None:
        """`receive` gives what has already come, then nothing. Wakes it."""

    async def finish_sending(self) -> None:
        """Tell the peer that nothing more comes, where the transport can."""

    def abort(self) -> None:
        """The close that follows must not look like a clean end."""

    async def close(self) -> None:
        """Release it; never raises ClientDisconnected."""


class SocketWire:
    """A connected, non-blocking stream socket, which it owns."""

    __slots__ = ("_hangups", "_read_size", "_socket", "_write_seconds", "client", "server")

    def __init__(self, connected: socket.socket, hangups: Hangups, *, read_size: int, write_seconds: float) -> None:
        self._socket = connected
        self._hangups = hangups
        self._read_size = read_size
        self._write_seconds = write_seconds
        self.client: Address | None = client_of(connected)
        self.server: Address | None = server_of(connected)

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
                raise ClientStalled(f"the peer took no byte for {self._write_seconds:g} s")
            sent = self.send_now(left)
            moved(sent)
            left = left[sent:]

    def stop_reading(self) -> None:
        # Not connected any more: then reading ends by itself.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    async def finish_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ClientDisconnected(f"closing failed: {error}") from None

    def abort(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    async def close(self) -> None:
        self._hangups.discard(self._socket.fileno())
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class Hangups:
    """Callbacks by file descriptor; Linux only."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """`callback` runs when the peer of `fd` is gone: from `run`, so never before this returns."""
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
        self._callbacks[fd] = callback

    def discard(self, fd: int) -> None:
        """Must come before `fd` is closed: its number will be used again."""
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
        """After every `discard`."""
        self._epoll.close()


def client_of(connected: socket.socket | SocketType) -> Address | None:
    """The peer; None when it has no name (a Unix socket's) or has already gone."""
    with suppress(OSError):
        return _address(connected.getpeername())
    return None


def server_of(connected: socket.socket | SocketType) -> Address | None:
    """Our end; None like `client_of`."""
    with suppress(OSError):
        return _address(connected.getsockname())
    return None


def _address(name: object) -> Address | None:
    match name:
        case (str() as host, int() as port, *_):
            return (host, port)
        case str() as path if path:
            return (path, None)
    return None
