"""Takes connections from one worker to another: the socket itself, with the request that is not answered yet (SCM_RIGHTS).

 sender ──frame: length, moves, bytes; the descriptor──▶ receiver
        ◀──────────────── YES or NO ─────────────────────
        ──────────────── YES: it is yours ──────────────▶ serves it

Until its last message the sender may change its mind: where no answer comes, it relays the request instead. A receiver that has not read
that message serves nothing, so that a request never runs twice.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count

import trio

from trio_mcp.transports.listener.moving import MOST_BYTES, Moved

__all__ = ["Moves"]

MOVE_SECONDS = 1.0
"""For the other worker to answer: one whose event loop is blocked takes nothing."""

MOST_PENDING = 256
"""Connections that were taken and are not served yet; more are refused."""

BACKLOG = 128
MOST_KEPT = 8
"""Connections to one other worker that are kept for the next move; each carries one move at a time."""

_FRAME = struct.Struct("!IH")
_DESCRIPTOR_BYTES = array("i").itemsize
_YES, _NO = b"\x01", b"\x00"
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Moves(trio.abc.Listener[Moved]):
    """Implements `Mover`, and the listener whose connections come from other workers.

    `url` is where the others reach this worker (`unix:/folder/boot.http`); its socket for moves lies beside that. `others` are the URLs of
    workers that are ready.
    """

    def __init__(self, url: str, others: Callable[[], Sequence[str]]) -> None:
        self.departing: trio.Event = trio.Event()
        self._path = _path_of(url)
        self._private = url.removeprefix("unix:")
        self._others = others
        self._turn = count()
        self._put, self._taken = trio.open_memory_channel[Moved](MOST_PENDING)
        self._pending = 0
        self._closed = False
        self._kept: dict[str, list[trio.socket.SocketType]] = {}

    # Where connections come from.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections from other workers until cancelled."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            await listening.bind(self._path)
            listening.listen(BACKLOG)
            try:
                async with trio.open_nursery() as nursery:
                    task_status.started()
                    while True:
                        sender, _ = await listening.accept()
                        nursery.start_soon(self._take_from, sender)
            finally:
                self._close()

    async def accept(self) -> Moved:
        """The next connection that another worker has handed to this one."""
        moved = await self._taken.receive()
        self._pending -= 1
        return moved

    async def aclose(self) -> None:
        """Take no more; those that were taken and not accepted are closed."""
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._closed = True
        with suppress(trio.WouldBlock, trio.ClosedResourceError, trio.EndOfChannel):
            while True:
                self._taken.receive_nowait().stream.socket.close()
        for kept in self._kept.values():
            for connection in kept:
                connection.close()
        self._kept.clear()
        with suppress(OSError):
            os.unlink(self._path)

    @property
    def _has_room(self) -> bool:
        return not self._closed and not self.departing.is_set() and self._pending < MOST_PENDING

    async def _take_from(self, sender: trio.socket.SocketType) -> None:
        with sender, suppress(OSError):
            while (got := await _receive_frame(sender)) is not None:
                connected, first, moves = got
                taken = False
                try:
                    taken = await self._take(sender, connected, first, moves)
                finally:
                    if not taken:
                        connected.close()

    async def _take(self, sender: trio.socket.SocketType, connected: socket.socket, first: bytes, moves: int) -> bool:
        """Whether the connection is this worker's now."""
        if not self._has_room:
            await sender.send(_NO)
            return False
        self._pending += 1
        try:
            await sender.send(_YES)
            confirmed = await sender.recv(1) == _YES
        except BaseException:
            self._pending -= 1
            raise
        if not confirmed or self._closed:
            self._pending -= 1
            return False
        self._put.send_nowait(Moved(trio.SocketStream(trio.socket.from_stdlib_socket(connected)), first, moves))
        return True

    # Where they go.

    def refuge(self) -> str | None:
        """See `Mover`: the ready workers in turn."""
        others = self._others()
        return others[next(self._turn) % len(others)] if others else None

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        """See `Mover`."""
        return server != (self._private, None)

    async def move(self, connected: socket.socket, data: bytes, moves: int, to: str) -> bool:
        """See `Mover`."""
        path = _path_of(to)
        with trio.move_on_after(MOVE_SECONDS), suppress(OSError):
            receiver = await self._connected(path)
            answer = b""
            try:
                await _send_frame(receiver, connected, data, moves)
                answer = await receiver.recv(1)
                if answer == _YES:
                    # A checkpoint of `send` that is cancelled has sent nothing.
                    await receiver.send(_YES)
            except BaseException:
                answer = b""
                raise
            finally:
                if answer:
                    self._keep(path, receiver)
                else:
                    receiver.close()
            return answer == _YES
        return False

    async def _connected(self, path: str) -> trio.socket.SocketType:
        kept = self._kept.get(path)
        if kept:
            return kept.pop()
        made = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await made.connect(path)
        except BaseException:
            made.close()
            raise
        return made

    def _keep(self, path: str, receiver: trio.socket.SocketType) -> None:
        kept = self._kept.setdefault(path, [])
        if self._closed or len(kept) >= MOST_KEPT:
            receiver.close()
        else:
            kept.append(receiver)


def _path_of(url: str) -> str:
    """Where the worker takes connections that is reached at `url`."""
    return url.removeprefix("unix:").removesuffix(".http") + ".moves"


async def _send_frame(receiver: trio.socket.SocketType, connected: socket.socket, data: bytes, moves: int) -> None:
    frame = _FRAME.pack(len(data), moves) + data
    descriptor = array("i", [connected.fileno()])
    # The descriptor goes with the first byte.
    sent = await receiver.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
    while sent < len(frame):
        sent += await receiver.send(memoryview(frame)[sent:])


async def _receive_frame(sender: trio.socket.SocketType) -> tuple[socket.socket, bytes, int] | None:
    """The connection, the bytes and the number of moves; None at the end. Raises OSError for what is no frame."""
    space = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
    data, extra, _, _ = await sender.recvmsg(_FRAME.size + MOST_BYTES, space, _CLOSE_ON_EXEC)
    connected = _socket_in(extra)
    if connected is None:
        return None
    try:
        while len(data) < _FRAME.size or len(data) < _FRAME.size + _size(data):
            more = await sender.recv(MOST_BYTES)
            if not more:
                connected.close()
                return None
            data += more
    except BaseException:
        connected.close()
        raise
    _, moves = _FRAME.unpack_from(data)
    return connected, data[_FRAME.size :], moves


def _size(data: bytes) -> int:
    """Of what follows the head of a frame; raises OSError for more than may go along."""
    size = int(_FRAME.unpack_from(data)[0])
    if size > MOST_BYTES:
        raise OSError(f"{size} bytes of a connection are more than may go along")
    return size


def _socket_in(extra: list[tuple[int, int, bytes]]) -> socket.socket | None:
    for level, kind, content in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            (number,) = array("i", content[:_DESCRIPTOR_BYTES])
            try:
                os.set_inheritable(number, False)
                return socket.socket(fileno=number)
            except OSError:
                os.close(number)
                raise
    return None
