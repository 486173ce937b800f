"""A pair of sockets between the supervisor and one worker: whole messages both ways, in order.

Sending never blocks: what the other process does not take waits here, up to a bound. A process that takes nothing for so long that the
bound is reached hangs, and its channel breaks.
"""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

import msgspec
import trio

__all__ = ["Channel", "ChannelBroken", "receive_now", "send_now"]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Longer than any message: a longer one was not made by `Channel`."""
MAX_WAITING = 20_000
"""Messages that wait for the other process: as many as a burst of announcements to a worker that is busy."""
READ_BYTES = 64 * 1024
_LENGTH_BYTES = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class ChannelBroken(OSError):
    """The other process has ended, or takes nothing any more."""


class Channel(Generic[_In, _Out]):
    """One end of the pair. It owns `connected`; `incoming` is the union of the messages that it receives."""

    def __init__(self, connected: socket.socket, incoming: object) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        self._decoder: msgspec.msgpack.Decoder[_In] = msgspec.msgpack.Decoder(incoming)
        self._buffer = bytearray()
        self._put, self._waiting = trio.open_memory_channel[bytes](MAX_WAITING)
        self._all_sent = trio.lowlevel.ParkingLot()
        self._unsent = 0
        self.broken: trio.Event = trio.Event()
        """Set when the other process has gone, or takes nothing."""

    def send(self, message: _Out) -> None:
        """Have `write` send the message; dropped when the channel is broken."""
        data = msgspec.msgpack.encode(message)
        try:
            self._put.send_nowait(len(data).to_bytes(_LENGTH_BYTES) + data)
            self._unsent += 1
        except trio.WouldBlock:
            self.broken.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def write(self) -> None:
        """Send what `send` was given, until the channel breaks or this is cancelled."""
        with self._waiting:
            try:
                async for data in self._waiting:
                    await self._stream.send_all(data)
                    self._unsent -= 1
                    if not self._unsent:
                        self._all_sent.unpark_all()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.broken.set()
                self._unsent = 0
                self._all_sent.unpark_all()

    async def sent(self) -> None:
        """Wait until `write` has sent everything, or the channel has broken."""
        while self._unsent:
            await self._all_sent.park()

    async def receive(self) -> _In:
        """The next message. Raises ChannelBroken at the end, and for bytes that are no message."""
        size = int.from_bytes(await self._take(_LENGTH_BYTES))
        if size > MAX_MESSAGE_BYTES:
            raise self._break("a message of impossible size")
        try:
            return self._decoder.decode(await self._take(size))
        except msgspec.MsgspecError as error:
            raise self._break(f"a message that cannot be read: {error}") from error

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._break("the other process has ended") from error
            if not data:
                raise self._break("the other process has ended")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _break(self, why: str) -> ChannelBroken:
        self.broken.set()
        return ChannelBroken(why)

    def close(self) -> None:
        """Close the socket: the other end sees that this process has gone."""
        self._put.close()
        self._stream.socket.close()


def send_now(connected: socket.socket, message: object) -> None:
    """Send a message on a blocking socket, outside of an event loop; OSError when the other process has gone."""
    data = msgspec.msgpack.encode(message)
    connected.sendall(len(data).to_bytes(_LENGTH_BYTES) + data)


def receive_now(connected: socket.socket, kind: type[_In]) -> _In:
    """The first message of a channel, read from a blocking socket outside of an event loop, and no byte beyond it.

    Raises EOFError at the end, and msgspec.MsgspecError for any other message.
    """
    size = int.from_bytes(_exactly(connected, _LENGTH_BYTES))
    return msgspec.msgpack.decode(_exactly(connected, size), type=kind)


def _exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        if not more:
            raise EOFError("the supervisor has ended")
        data += more
    return data
