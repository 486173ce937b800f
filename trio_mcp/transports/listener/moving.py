"""Connections that go to another process of the same node, with the request that is not answered yet.

 its head names a session of another process ──▶ Departure.lead ─┐
 the app has found out where its session is ──▶ Departure.go ────┼──▶ Mover.move ═══ the socket, the request, what is pipelined ═══▶ Moved ──▶ connection
 this process is replaced ──▶ Departure.leave ───────────────────┘                     └─ not taken: it comes back, and is served here

A connection moves between two messages only: nothing of a response was sent. One whose request is not for the process that takes it is
answered from there all the same: where it goes is where it is served soonest, and decides nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec
import trio

from trio_mcp.transports.listener.head import Head
from trio_mcp.transports.listener.wire import Address, SocketWire

__all__ = ["MOST_BYTES", "Departure", "Moved", "Mover", "Serve"]

MOST_BYTES = 64 * 1024
"""Of a request that goes along, with what is pipelined behind it. The process that takes it does not count so little for memory; a
larger request is answered where it is, and the connection goes with a later one."""


class Moved(msgspec.Struct, frozen=True, eq=False):
    """A connection to be served that another process has served before."""

    connected: socket.socket
    """Not blocking, and with the options that it was given when it was accepted."""
    first: bytes
    """What has been read of it, and is to be served."""
    client: Address | None
    """As it was when the connection was accepted, which is cheaper to send along than to ask for."""
    server: Address | None
    back: bool = False
    """It was sent from here, and not taken there."""


Serve: TypeAlias = Callable[[Moved], bool]
"""Serves the connection, which is the server's from then on; False when it has no room for it."""


class Mover(Protocol):
    """Takes connections to other processes of the node."""

    departing: trio.Event
    """Set when all connections shall leave, because this process is replaced."""

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        """Whether a connection that was accepted at this address may go: those of other workers, which relay, stay where they are."""

    def serve_with(self, serve: Serve | None) -> None:
        """Have `serve` called with each connection that comes; None: take no more."""

    def owner(self, data: bytes) -> str | None:
        """The process that is known to be the one for a request whose first bytes are `data`; None: this one, or it is not known."""

    def move(self, leaving: Moved, to: str) -> bool:
        """Have the process at `to` serve the connection from now on; False when that is not possible.

        After True it is the mover's, and may come back.
        """

    def refuge(self) -> str | None:
        """Where a connection goes that has to leave; None where there is no such process."""

    async def settled(self) -> None:
        """Wait until none that was sent may come back any more."""


class Departure:
    """The way out of a connection that is a plain socket."""

    __slots__ = ("_mover", "_wire", "arriving", "gone")

    def __init__(self, mover: Mover, wire: SocketWire, *, arriving: bool) -> None:
        self._mover = mover
        self._wire = wire
        self.arriving: bool = arriving
        """The present request has moved with the connection, and does not go on: two processes that take each other for the right one
        would send it to and fro."""
        self.gone: bool = False
        """It has left: not a byte may be read or sent here any more."""

    @property
    def is_due(self) -> bool:
        """Whether it has to leave."""
        return self._mover.departing.is_set() and not self.arriving

    def leave(self, data: bytes) -> bool:
        """Go wherever there is another process, with the bytes that were read; whether that worked."""
        to = self._mover.refuge()
        return to is not None and self._go(data, to)

    def lead(self, data: bytes) -> bool:
        """Go to the process that is known to be the one for the request that begins with `data`; False when it stays."""
        if self.arriving:
            return False
        to = self._mover.owner(data)
        return to is not None and self._go(data, to)

    def go(self, head: Head, content: bytes, rest: bytes, to: str) -> bool:
        """Go to the process at `to`, with the request of that head and content, and with `rest`; whether that worked.

        A request without a length, or that waits for a 100, cannot be sent again as it came.
        """
        again = not head.chunked and not head.expects_continue and len(content) == head.content_length
        return again and not self.arriving and self._go(head.raw + content + rest, to)

    def _go(self, data: bytes, to: str) -> bool:
        wire = self._wire
        if self._mover.move(Moved(wire.socket, data, wire.client, wire.server, back=True), to):
            wire.release()
            self.gone = True
        return self.gone
