"""A pair of sockets between the supervisor and one worker: whole messages both ways, in order.

Sending never blocks: what the other process has not taken waits here, up to a number of messages and of bytes. When one of these bounds is
reached, the other process is taken to hang, and the channel breaks.
"""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

import msgspec
import trio

__all__ = ["Channel", "ChannelBroken", "receive_now", "send_now"]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A longer message is not sent, and one that comes was not made by `Channel`."""
MAX_WAITING = 20_000
"""Messages that wait for the other process: as many as a burst of announcements to a worker that is busy."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of those messages together. One more is added as long as there are fewer."""
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
        self._unsent_bytes = 0
        self.broken: trio.Event = trio.Event()
        """Set when the other process has gone, takes nothing, or says what cannot be understood."""
        self.why_broken: str = ""
        """The reason, once it is broken."""

    def send(self, message: _Out) -> bool:
        """Have `write` send the message; dropped when the channel is broken. False for one that is longer than a message may be."""
        data = msgspec.msgpack.encode(message)
        if len(data) > MAX_MESSAGE_BYTES:
            return False
        if not self.broken.is_set():
            self._append(len(data).to_bytes(_LENGTH_BYTES) + data)
        return True

    def _append(self, data: bytes) -> None:
        try:
            if self._unsent_bytes >= MAX_WAITING_BYTES:
                raise trio.WouldBlock
            self._put.send_nowait(data)
        except trio.WouldBlock:
            self.fail("the other process takes nothing")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        else:
            self._unsent += 1
            self._unsent_bytes += len(data)

    async def write(self) -> None:
        """Send what `send` was given, until the channel breaks or this is cancelled."""
        with self._waiting:
            try:
                async for data in self._waiting:
                    await self._stream.send_all(data)
                    self._unsent -= 1
                    self._unsent_bytes -= len(data)
                    if not self._unsent:
                        self._all_sent.unpark_all()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.fail("the other process has ended")

    async def sent(self) -> None:
        """Wait until `write` has sent everything, or the channel has broken."""
        while self._unsent and not self.broken.is_set():
            await self._all_sent.park()

    async def receive(self) -> _In:
        """The next message. Raises ChannelBroken at the end, and for bytes that are no message."""
        size = int.from_bytes(await self._take(_LENGTH_BYTES))
        if size > MAX_MESSAGE_BYTES:
            raise self.fail("a message of impossible size")
        try:
            return self._decoder.decode(await self._take(size))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self.fail(f"a message that cannot be read: {error}") from error

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self.fail("the other process has ended") from error
            if not data:
                raise self.fail("the other process has ended")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def fail(self, why: str) -> ChannelBroken:
        """Break the channel, for the other process cannot be understood, or does not listen; the error to raise."""
        if not self.broken.is_set():
            self.why_broken = why
            self.broken.set()
            self._all_sent.unpark_all()
        return ChannelBroken(self.why_broken)

    def close(self) -> None:
        """Close the socket: the other end sees that this process has gone."""
        self._put.close()
        self._stream.socket.close()


def send_now(connected: socket.socket, message: object) -> None:
    """Send a message on a blocking socket, outside of an event loop; OSError when the other process has gone."""
    data = msgspec.msgpack.encode(message)
    connected.sendall(len(data).to_bytes(_LENGTH_BYTES) + data)


def receive_now(connected: socket.socket) -> bytes:
    """The first message of a channel, encoded, read from a blocking socket outside of an event loop, and no byte beyond it.

    Raises EOFError at the end.
    """
    return _exactly(connected, int.from_bytes(_exactly(connected, _LENGTH_BYTES)))


def _exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        if not more:
            raise EOFError("the supervisor has ended")
        data += more
    return data
