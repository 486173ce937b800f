"""The way of one connection to other processes of its node, and back.

 its head names a session of another process ──▶ lead ─┐                   ┌─ not taken ───────────────▶ back: it goes on here
 the app has found out where its session is ──▶ go ────┼──▶ Mover.move ────┤
 this process is replaced ──▶ leave ───────────────────┘                   └─ taken ─┬─ parked ─ comes ─▶ back: it goes on here
                                                                                     └─ released ───────▶ back: its task ends

A pool of connections that carries the sessions of many processes has each of them come and go all the time. What has come from another
process and goes on is therefore parked: task, objects and descriptor wait for it here. To return it needs a message without a descriptor,
and nothing is made anew, which more than halves what a move costs.
"""

from __future__ import annotations

import secrets
import time
from functools import partial

import trio

from trio_mcp.transports.listener.head import Head
from trio_mcp.transports.listener.moving import Moved
from trio_mcp.transports.listener.parking import MOST_PLACES, TRUSTED_SECONDS, Parking
from trio_mcp.transports.listener.wire import SocketWire

__all__ = ["Departure"]

KEY_BITS = 64
"""Of a number that no other connection has."""


class Departure:
    """Of a connection that is a plain socket. `moved` is as it came from another process; None for one that was accepted here."""

    __slots__ = (
        "_brought",
        "_is_parked",
        "_is_taken",
        "_key",
        "_may_park",
        "_parked_at",
        "_parking",
        "_sent",
        "_task",
        "_wire",
        "arriving",
        "gone",
        "stays",
    )

    def __init__(self, parking: Parking, wire: SocketWire, moved: Moved | None) -> None:
        self._parking = parking
        self._wire = wire
        self._key = 0 if moved is None else moved.key
        self._parked_at = {} if moved is None else moved.parked
        # One that was accepted here and leaves once may have all its sessions elsewhere, and would be parked in vain.
        self._may_park = moved is not None
        self.arriving: bool = moved is not None and bool(moved.first)
        """The present request has moved with the connection, and does not go on: two processes that take each other for the right one
        would send it to and fro."""
        self.gone: bool = False
        """It has left: not a byte may be read or sent here before `back`."""
        self.stays: bool = False
        """It is being closed, and goes nowhere: another process would take the end of what can be read for that of the client."""
        self._sent: Moved | None = None
        self._is_taken = False
        self._is_parked = False
        self._brought: bytes | None = None
        self._task: trio.lowlevel.Task | None = None

    # It goes.

    @property
    def is_due(self) -> bool:
        """Whether it has to leave."""
        return self._parking.mover.departing.is_set() and not self.arriving

    def leave(self, data: bytes) -> bool:
        """Go wherever there is another process, with the bytes that were read; whether that worked."""
        to = self._parking.mover.refuge()
        return to is not None and self._go(data, to)

    def lead(self, data: bytes) -> bool:
        """Go to the process that is known to be the one for the request that begins with `data`; False when it stays."""
        if self.arriving:
            return False
        to = self._parking.mover.owner(data)
        return to is not None and self._go(data, to)

    def go(self, head: Head, content: bytes, rest: bytes, to: str) -> bool:
        """Go to the process at `to`, with the request of that head and content, and with `rest`; whether that worked.

        A request without a length, or that waits for a 100, cannot be sent again as it came.
        """
        again = not head.chunked and not head.expects_continue and len(content) == head.content_length
        return again and not self.arriving and self._go(head.raw + content + rest, to)

    def _go(self, data: bytes, to: str) -> bool:
        if self.stays:
            return False
        now, wire, mover = time.monotonic(), self._wire, self._parking.mover
        parked_at = {url: since for url, since in self._parked_at.items() if now - since < TRUSTED_SECONDS}
        connected = None if to in parked_at else wire.socket
        is_parked = self._may_park and self._parking.has_room and len(parked_at) < MOST_PLACES
        if is_parked:
            parked_at[mover.url] = now
        if not self._key:
            # Not from `random`, which user code may have seeded in the same way in all workers: the requests of one client would go to another.
            self._key = secrets.randbits(KEY_BITS)
        moved = Moved(data, wire.client, wire.server, self._key, parked_at)
        if not mover.move(moved, connected, to, partial(self._answered, moved)):
            return False
        self._sent, self._is_taken, self._is_parked = moved, False, is_parked
        self.gone = True
        self._parking.left(self._key, self if is_parked else None)
        return True

    # It is away.

    @property
    def is_away(self) -> bool:
        """Whether another process has it, or may have it."""
        return self.gone and self._brought is None

    def _answered(self, sent: Moved, taken: bool) -> None:
        # Otherwise it has come back from there before the answer was looked at.
        if self._sent is not sent:
            return
        if not taken:
            self._parked_at = {}
            self.arriving = True
            self._return(sent.first)
            return
        self._is_taken = True
        if not self._is_parked:
            self._wake()

    def release(self) -> None:
        """Park it no more: its descriptor is closed here as soon as another process has taken it."""
        if self._sent is None:
            return
        self._unpark()
        if self._is_taken:
            self._wake()

    def close_here(self) -> None:
        """Close the descriptor that this process has: another one has the connection. It cannot come back."""
        self._unpark()
        self._sent = None
        self._wire.release()
        self._wire.socket.close()

    def come_back(self, moved: Moved) -> None:
        """Another process has sent it here again."""
        self._parked_at = moved.parked
        self._parked_at.pop(self._parking.mover.url, None)
        self.arriving = bool(moved.first)
        self._return(moved.first)

    def _unpark(self) -> None:
        # The key alone would not do: after its first leave it may have come with a descriptor, and be parked by another object.
        if self._is_parked:
            self._is_parked = False
            self._parking.discard(self._key)

    def _return(self, first: bytes) -> None:
        self._unpark()
        self._parking.came()
        self._sent, self._brought = None, first
        self._wake()

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def back(self) -> bytes | None:
        """Wait until it is here again: the bytes that were read elsewhere. None: it will not be, and its task is to end."""
        if self._brought is not None or (self._is_taken and not self._is_parked):
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._cancelled)
        if self._brought is None:
            return None
        data, self._brought = self._brought, None
        self.gone = False
        return data

    def _cancelled(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        # At once, not when the task runs next: the connection may come back before that.
        self._unpark()
        return trio.lowlevel.Abort.SUCCEEDED
