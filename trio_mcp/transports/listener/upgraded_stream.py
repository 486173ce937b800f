"""What trio-websocket reads and writes: one frame at a time, within the bounds of a connection.

    wire ──▶ Frames ──▶ receive_some ──▶ trio-websocket ──▶ send_all ──▶ Exchange.write ──▶ wire
               │                                               ▲
               └─ 1002, 1003, 1009                 pings, the close frame

trio-websocket counts characters and not bytes, has no bound on fragments, no deadlines and no keep-alive, and does not send a close
frame when a client breaks the protocol. All that is done here. One frame at a time, because the state of the connection may change
between two: wsproto raises when a ping is answered after a close.
"""

from __future__ import annotations

import math
from contextlib import suppress

import trio

from trio_mcp.streams.account import SMALL, NoRoom
from trio_mcp.transports.listener.exchange import Exchange
from trio_mcp.transports.listener.frames import CLOSE_BYTE, PING, PONG_BYTE, FrameRefusal, Frames, close_frame
from trio_mcp.transports.listener.wire import ClientDisconnected

__all__ = ["UpgradedStream"]

PIECE_BYTES = 64 * 1024
"""Given out at once: decoding it takes less than a millisecond."""
TURN_BYTES = 16 * 1024
"""After so many, with FRAME_WEIGHT for each frame, other tasks run: a client that sends without pauses must not keep its turn."""
FRAME_WEIGHT = 512

_ANSWERS = (CLOSE_BYTE, PONG_BYTE)
"""First bytes of what trio-websocket answers by itself. After our close frame they are not sent, and that is no error."""


class UpgradedStream(trio.abc.Stream):
    """The connection of `exchange` from its handshake on. `head` is given out first.

    Once a write was cut short, or a close frame was sent, nothing is written any more.
    """

    def __init__(self, exchange: Exchange, head: bytes) -> None:
        self._exchange = exchange
        self._wire = exchange.wire
        self._limits = exchange.limits
        self._account = exchange.account
        self._frames = Frames(exchange.limits.body_bytes)
        self._head = head
        self._data, exchange.rest = exchange.rest, b""
        self._at = 0
        self._left = 0
        self._held = 0
        self._turn = 0
        self._message_deadline = math.inf
        self._writing: trio.CancelScope | None = None
        self._write_lock = trio.Lock()
        self._closed = False
        self.accepted: trio.Event = trio.Event()
        """Set when the handshake was answered: frames are given out from then on."""
        self.refusal: FrameRefusal | None = None
        """Why no more frames are given out."""
        self.close_sent: bool = False
        """A close frame was sent, by either side's will."""
        exchange.tell_when_client_leaves(self._hang_up)

    # What the client sends.

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """One frame or a part of one; empty when the client sends no more. (`max_bytes` is trio-websocket's None.)"""
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        await self.accepted.wait()
        try:
            return await self._next()
        except FrameRefusal as refusal:
            self.refusal = refusal
        except ClientDisconnected:
            pass
        raise trio.BrokenResourceError

    async def _next(self) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError
        if not self._left and not await self._begin_frame():
            return b""
        if self._at == len(self._data) and not await self._read():
            return b""
        piece = self._data[self._at : self._at + min(self._left, PIECE_BYTES)]
        self._at += len(piece)
        self._left -= len(piece)
        if not self._left and not self._frames.in_message:
            self._message_deadline = math.inf
        await self._take_turns(len(piece))
        if self._closed:
            # While other tasks ran.
            raise trio.ClosedResourceError
        return piece

    async def _take_turns(self, size: int) -> None:
        self._turn += size + FRAME_WEIGHT
        if self._turn > TURN_BYTES:
            self._turn = 0
            await trio.lowlevel.checkpoint()

    async def _begin_frame(self) -> bool:
        """Read a frame's header, and, where the frame is large, all of it; False when the client sends no more."""
        frames = self._frames
        if not frames.in_message:
            # trio-websocket hands a message over before it reads on.
            self._release()
        while (length := frames.begin(self._data, self._at)) is None:
            if not await self._read():
                return False
        self._left = length
        if not frames.in_data:
            return True
        if self._message_deadline == math.inf:
            self._message_deadline = trio.current_time() + self._limits.body_seconds
        if length > SMALL and len(self._data) - self._at < length and not await self._read_large(length):
            return False
        self._hold(frames.message)
        return True

    async def _read_large(self, length: int) -> bool:
        """Read the rest of a frame, when there is room for it. Nothing can come between its bytes, so nobody waits for it."""
        # Not a list of its pieces, as for the body of a request.
        frame = bytearray(self._data[self._at :])
        try:
            await self._account.room_for_body(length, len(frame))
        except NoRoom:
            raise FrameRefusal(1011, "memory is short, try again") from None
        with self._account.receiving(length, len(frame)) as transfer:
            while len(frame) < length:
                data = await self._receive()
                if not data:
                    return False
                frame += data
                transfer.progress(len(data))
        if transfer.cut:
            raise _too_slow()
        self._data, self._at = bytes(frame), 0
        return True

    async def _read(self) -> bool:
        data = await self._receive()
        self._data, self._at = self._data[self._at :] + data, 0
        return bool(data)

    async def _receive(self) -> bytes:
        """Wait for bytes; pings a client that has been quiet. One that stays quiet after that is gone."""
        pinged = False
        while True:
            quiet_at = trio.current_time() + self._limits.ping_seconds
            with trio.move_on_at(min(quiet_at, self._message_deadline)):
                return await self._wire.receive()
            if trio.current_time() >= self._message_deadline:
                raise _too_slow()
            if pinged:
                self._exchange.abort()
                raise ClientDisconnected(f"the client sent nothing for {2 * self._limits.ping_seconds:g} s")
            # A client that is being sent something cannot see a ping before it has taken that, which has a deadline of its own.
            pinged = not self._write_lock.locked()
            if pinged:
                await self._write(PING)

    def _hold(self, size: int) -> None:
        """Count the present message, of `size` bytes so far, for the node."""
        if size > SMALL:
            self._account.charge(size - self._held)
            self._held = size

    def _release(self) -> None:
        self._account.release(self._held)
        self._held = 0

    # What it is sent.

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write one frame; raises BrokenResourceError when that cannot be done any more."""
        if self.close_sent and data[0] in _ANSWERS:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._write(bytes(data))
        except ClientDisconnected as error:
            # trio-websocket ends here; a ping that it were given now would be an error of its own.
            self._closed = True
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """Not used by trio-websocket, which writes one frame at a time itself."""
        await trio.lowlevel.checkpoint()

    async def _write(self, data: bytes) -> None:
        # Frames of trio-websocket, pings and the close frame come from several tasks.
        async with self._write_lock:
            if self.close_sent:
                raise ClientDisconnected("the connection is closing")
            self.close_sent = data[0] == CLOSE_BYTE
            with trio.CancelScope() as self._writing:
                if self._exchange.gone:
                    self._hang_up()
                await self._exchange.write(data)
            if self._writing.cancelled_caught:
                raise ClientDisconnected("the client has hung up")

    def _hang_up(self) -> None:
        """The client has closed its sending half: what the kernel takes at once is still written, but nothing waits for the client."""
        if self._writing is not None:
            self._writing.cancel("the client has hung up")

    async def send_close(self, code: int, reason: str) -> None:
        """Send a close frame, unless one was sent or the client is gone."""
        with suppress(ClientDisconnected):
            await self._write(close_frame(code, reason))

    def abort(self) -> None:
        """Have the connection reset: reading ends, and a write that waits."""
        self._exchange.abort()
        self._wire.stop_reading()
        self._hang_up()

    async def aclose(self) -> None:
        """Give out no more. The connection itself is closed by its owner."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same, without a checkpoint."""
        self._closed = True
        self._release()


def _too_slow() -> FrameRefusal:
    return FrameRefusal(1008, "the message took too long")
