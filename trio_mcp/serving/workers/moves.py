"""Takes connections from one worker to another: the socket itself, with the request that is not answered yet (SCM_RIGHTS).

 sender ══ move, move, move: the bytes and the descriptor of each ══▶ receiver ──▶ serves what it takes
        ◀════════ YES, YES, NO: in the same order ═══════════════════
        └─▶ serves itself what comes back

The receiver answers before it serves. The sender, which has given the request away with the move, serves it only after a NO, or when the
receiver has ended without an answer: so that a request never runs twice. No task waits for the answer, and it has no deadline, since a move
cannot be taken back: a receiver whose event loop is blocked has the session, and nobody else could answer; one that hangs is killed.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count

import msgspec
import trio

from trio_mcp.transports.listener.moving import MOST_BYTES, Moved, Receiver
from trio_mcp.transports.listener.wire import Hangups

__all__ = ["Moves"]

MOST_UNANSWERED = 128
"""Moves to one other worker: beyond that, requests are relayed. The kernel's buffers hold the answers to so many."""

HEAR_SECONDS = 0.05
"""Between two looks at the answers: to wake for each would cost as much as a move."""
MANY_UNANSWERED = MOST_UNANSWERED // 2
"""With so many the answers are looked at before the next move."""

BACKLOG = 128
ACCEPT_RETRY_SECONDS = 0.1
HEAD_BYTES = 2048
"""Of a request, where its session is looked for; one that is named later is found when the head has been parsed."""

_SESSION = re.compile(rb"\r\n[Mm][Cc][Pp]-[Ss]ession-[Ii][Dd]: ?([!-~]+)\r\n")
_MORE_BYTES = 2048
"""More than two addresses, and the URLs of the processes where a connection is parked, take."""
_DESCRIPTOR = struct.Struct("i")
_SPACE = socket.CMSG_SPACE(_DESCRIPTOR.size)
_YES, _NO = b"\x01", b"\x00"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Moved).decode


class Moves:
    """Implements `Mover`. Linux only.

    `url` is where the others reach this worker (`unix:/folder/boot.http`); its socket for moves lies beside that. `others` are the URLs of
    workers that are ready. `elsewhere` is given a session id: the URL of the worker that is known to have it, None for this one.
    `moved` is called with each connection that is taken.
    """

    def __init__(
        self,
        url: str,
        others: Callable[[], Sequence[str]],
        elsewhere: Callable[[str], str | None],
        moved: Callable[[], object],
    ) -> None:
        self.departing: trio.Event = trio.Event()
        self.url: str = url
        self._path = _path_of(url)
        self._private = url.removeprefix("unix:")
        self._others = others
        self._elsewhere = elsewhere
        self._moved = moved
        self._turn = count()
        self._receiver: Receiver | None = None
        self._closed = False
        self._lines: dict[str, _Line] = {}
        self._sent = trio.lowlevel.ParkingLot()
        self._answered = trio.lowlevel.ParkingLot()
        self._buffer = bytearray(MOST_BYTES + _MORE_BYTES)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections from other workers, and hear of those that were sent, until cancelled."""
        with _message_socket() as listening:
            listening.bind(self._path)
            listening.listen(BACKLOG)
            self._hangups = Hangups()
            try:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._hangups.run)
                    self._nursery.start_soon(self._hear)
                    task_status.started()
                    while True:
                        await trio.lowlevel.wait_readable(listening)
                        try:
                            sender, _ = listening.accept()
                        except OSError:
                            # Such as EMFILE: it still waits to be accepted.
                            await trio.sleep(ACCEPT_RETRY_SECONDS)
                        else:
                            self._nursery.start_soon(self._take_from, sender)
            finally:
                self._closed = True
                # The others may have taken what was sent and not answered: it is closed here.
                for to in list(self._lines):
                    self._close(to)
                self._hangups.close()
                with suppress(OSError):
                    os.unlink(self._path)

    def serve_with(self, receiver: Receiver | None) -> None:
        """See `Mover`."""
        self._receiver = receiver

    # Where connections come from.

    async def _take_from(self, sender: socket.socket) -> None:
        sender.setblocking(False)
        with sender, suppress(OSError):
            while True:
                await trio.lowlevel.wait_readable(sender)
                self._take_all(sender)
        self._release_parked()

    def _release_parked(self) -> None:
        if self._receiver is not None:
            self._receiver.release_parked()

    def _take_all(self, sender: socket.socket) -> None:
        """Have all moves served that have come, and answer them. Raises OSError when the sender has ended.

        What is served runs first when this task waits, so that its answer is out before.
        """
        answers = b""
        try:
            with suppress(BlockingIOError):
                while len(answers) < MOST_UNANSWERED:
                    answers += _YES if self._take(sender) else _NO
        finally:
            if answers:
                sender.send(answers)

    def _take(self, sender: socket.socket) -> bool:
        """Whether the next move is taken. Raises BlockingIOError where none has come, another OSError at the end."""
        size, extra, _, _ = sender.recvmsg_into([self._buffer], _SPACE, socket.MSG_CMSG_CLOEXEC)
        if not size:
            raise ConnectionResetError("the other worker has ended")
        connected = _socket_in(extra)
        taken = False
        try:
            moved = _read(memoryview(self._buffer)[:size])
            taken = self._receiver is not None and not self.departing.is_set() and self._receiver.take(moved, connected)
        finally:
            if connected is not None and not taken:
                connected.close()
        if taken:
            self._moved()
        return taken

    # Where they go.

    def refuge(self) -> str | None:
        """See `Mover`: the ready workers in turn."""
        others = self._others()
        return others[next(self._turn) % len(others)] if others else None

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        """See `Mover`."""
        return server != (self._private, None)

    def owner(self, data: bytes) -> str | None:
        """See `Mover`: by the session that the head names."""
        found = _SESSION.search(data, 0, HEAD_BYTES)
        return None if found is None else self._elsewhere(found[1].decode())

    def move(self, leaving: Moved, connected: socket.socket | None, to: str, answered: Callable[[bool], None]) -> bool:
        """See `Mover`."""
        if self._receiver is None or self._closed or len(leaving.first) > MOST_BYTES:
            # Without a server here, it could not come back.
            return False
        try:
            line = self._line(to)
            if len(line.unanswered) >= MANY_UNANSWERED:
                self._hear_now(line)
            line.send(leaving, connected, answered)
        except OSError:
            # It has ended, or has not read the moves before this one.
            return False
        if self._sent:
            self._sent.unpark()
        return True

    async def settled(self) -> None:
        """See `Mover`."""
        while any(line.unanswered for line in self._lines.values()):
            await self._answered.park()

    def _line(self, to: str) -> _Line:
        line = self._lines.get(to)
        if line is None:
            self._lines[to] = line = _Line(_path_of(to))
            self._hangups.add(line.fileno(), partial(self._end, to))
        return line

    async def _hear(self) -> None:
        """Look at the answers while there are some to come, until cancelled."""
        while True:
            if not any(line.unanswered for line in self._lines.values()):
                await self._sent.park()
            await trio.sleep(HEAR_SECONDS)
            for line in list(self._lines.values()):
                self._hear_now(line)

    def _hear_now(self, line: _Line) -> None:
        """Close what was taken, and take back what was not."""
        for answer in line.answers():
            line.unanswered.popleft()(answer == _YES[0])
        self._answered.unpark_all()

    def _end(self, to: str) -> None:
        """The other worker has ended: what it has not answered, it has not taken."""
        line = self._lines[to]
        self._hear_now(line)
        while line.unanswered:
            line.unanswered.popleft()(False)
        self._close(to)
        self._release_parked()

    def _close(self, to: str) -> None:
        line = self._lines.pop(to)
        self._hangups.discard(line.fileno())
        line.close()
        self._answered.unpark_all()


class _Line:
    """The way to one other worker. Raises OSError when nobody listens at `path`."""

    def __init__(self, path: str) -> None:
        self.unanswered: deque[Callable[[bool], None]] = deque()
        """For each what is to be called with the answer."""
        self._socket = _message_socket()
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def send(self, leaving: Moved, connected: socket.socket | None, answered: Callable[[bool], None]) -> None:
        """Send the connection without waiting. Raises OSError when that is not possible now."""
        if len(self.unanswered) >= MOST_UNANSWERED:
            raise BlockingIOError("the other worker takes connections too slowly")
        message = _encode(leaving)
        if connected is None:
            self._socket.send(message)
        else:
            descriptor = _DESCRIPTOR.pack(connected.fileno())
            self._socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
        self.unanswered.append(answered)

    def answers(self) -> Iterator[int]:
        """All that have come."""
        while answers := self._some_answers():
            yield from answers

    def _some_answers(self) -> bytes:
        try:
            return self._socket.recv(MOST_UNANSWERED)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            # It has not read all, and the kernel says that first, before what it had answered.
            return self._some_answers()

    def fileno(self) -> int:
        """Of its socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it. What was sent and not answered may have been taken."""
        self._socket.close()
        while self.unanswered:
            self.unanswered.popleft()(True)


def _path_of(url: str) -> str:
    """Where the worker takes connections that is reached at `url`."""
    return url.removeprefix("unix:").removesuffix(".http") + ".moves"


def _message_socket() -> socket.socket:
    """A move or its answer is whole in it, or not there."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made


def _read(message: memoryview) -> Moved:
    """Raises OSError for one that was not made by `_Line`."""
    try:
        return _decode(message)
    except msgspec.MsgspecError as error:
        raise OSError(f"a move that cannot be read: {error}") from error


def _socket_in(extra: list[tuple[int, int, bytes]]) -> socket.socket | None:
    """The socket that came with a message; None for none. Raises OSError for a descriptor of something else, which is closed."""
    for level, kind, content in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            (number,) = _DESCRIPTOR.unpack_from(content)
            try:
                # That is known of all that come here, and the kernel need not be asked for it.
                return socket.socket(-1, socket.SOCK_STREAM, 0, number)
            except OSError:
                os.close(number)
                raise
    return None
