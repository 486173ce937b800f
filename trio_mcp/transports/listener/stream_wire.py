"""The bytes of one connection over any Trio stream: TLS, memory streams, and sockets where there is no epoll.

A stream notices that its client is gone only while it is read, so `pump` reads ahead, up to `read_size` bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from trio_mcp.transports.listener.wire import (
    RESET_ON_CLOSE,
    Address,
    ClientDisconnected,
    ClientStalled,
    client_of,
    server_of,
)

__all__ = ["StreamWire"]

PIECE_BYTES = 16 * 1024
"""Written at once. The write deadline is for each piece, so that a slow reader that makes progress does not miss it."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


def _nothing() -> None:
    pass


class StreamWire:
    """A wire over `stream`, which it owns; `pump` must run in a task beside its user."""

    def __init__(self, stream: trio.abc.Stream, *, read_size: int, write_seconds: float) -> None:
        self._stream = stream
        self._read_size = read_size
        self._write_seconds = write_seconds
        connected = stream.socket if isinstance(stream, trio.SocketStream) else None
        self.client: Address | None = client_of(connected) if connected is not None else None
        self.server: Address | None = server_of(connected) if connected is not None else None
        self._buffer = b""
        self._ended = False
        self._changed = trio.Event()
        self._hung_up: Callable[[], None] = _nothing
        self._aborted = False

    def on_hangup(self, callback: Callable[[], None]) -> None:
        self._hung_up = callback

    async def pump(self) -> None:
        """Read ahead until the client closes or breaks the stream."""
        try:
            while not self._ended:
                data = await self._stream.receive_some(self._read_size)
                if not data:
                    break
                await self._put(bytes(data))
        except _BROKEN:
            pass
        if not self._ended:
            self._end()
            self._hung_up()

    async def _put(self, data: bytes) -> None:
        self._buffer += data
        self._wake()
        while len(self._buffer) >= self._read_size and not self._ended:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    async def receive(self) -> bytes:
        while (data := self.receive_now()) is None:
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        return data

    def receive_now(self) -> bytes | None:
        if not self._buffer:
            return b"" if self._ended else None
        data, self._buffer = self._buffer, b""
        self._wake()
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        return 0

    async def send_all(self, data: bytes | memoryview, moved: Callable[[int], None] = lambda count: None) -> None:
        left = memoryview(data)
        while left:
            # Within one call, a stream does not report progress.
            piece = left[:PIECE_BYTES]
            await self._send_piece(piece)
            moved(len(piece))
            left = left[len(piece) :]

    async def _send_piece(self, piece: memoryview) -> None:
        try:
            with trio.move_on_after(self._write_seconds) as deadline:
                await self._stream.send_all(piece)
        except _BROKEN as error:
            raise ClientDisconnected(f"sending failed: {error!r}") from None
        if deadline.cancelled_caught:
            raise ClientStalled(f"the client took too little for {self._write_seconds:g} s")

    def stop_reading(self) -> None:
        self._end()

    def wake(self) -> None:
        pass

    async def finish_sending(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            try:
                await self._stream.send_eof()
            except _BROKEN as error:
                raise ClientDisconnected(f"closing failed: {error!r}") from None

    def abort(self) -> None:
        self._aborted = True
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    async def close(self) -> None:
        self._ended = True
        if self._aborted:
            await trio.aclose_forcefully(self._stream)
            return
        with suppress(*_BROKEN):
            await self._stream.aclose()
