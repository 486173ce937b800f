"""The bytes of one connection: a port, and its adapter for Linux sockets.

`SocketWire` works on the bare non-blocking socket: it tries the system call first and waits only when the kernel says
so, which saves a pass through the scheduler per call. A peer's disconnect reaches it through `Hangups` while nobody
reads, so one task per connection is enough. What is not a socket, or not on Linux, uses `stream_wire`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from trio_mcp.transports.listener.addresses import Address, client_of, server_of
from trio_mcp.transports.listener.errors import ClientDisconnected, ClientStalled
from trio_mcp.transports.listener.hangups import Hangups

__all__ = ["RESET_ON_CLOSE", "SocketWire", "Wire"]

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing drops what is unsent and resets the connection."""


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
        self.client = client_of(connected)
        self.server = server_of(connected)

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
