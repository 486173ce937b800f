"""Connections that go to another process of the same node, with the request that is not answered yet.

 exchange ──▶ Departure.go ──▶ Mover.move ═══ the socket, the request, what is pipelined behind it ═══▶ Moved ──▶ connection
                                  │ not taken
                                  └─▶ the connection stays, and its request is answered here

A connection moves between two messages only: its request has been read, and nothing of a response was sent.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

import trio

from trio_mcp.transports.listener.head import Head

__all__ = ["MOST_BYTES", "MOST_MOVES", "Departure", "Moved", "Mover"]

MOST_BYTES = 64 * 1024
"""Of a request that goes along, with what is pipelined behind it. The process that takes it does not count so little for memory; a
larger request is answered where it is, and the connection goes with a later one."""

MOST_MOVES = 4
"""Of one connection. One that has moved so often carries sessions of several processes, as a balancer's does: it stays."""


class Mover(Protocol):
    """Takes connections to other processes of the node."""

    departing: trio.Event
    """Set when all connections shall leave, because this process is replaced."""

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        """Whether a connection that was accepted at this address may go: those of other workers, which relay, stay where they are."""

    async def move(self, connected: socket.socket, data: bytes, moves: int, to: str) -> bool:
        """Have the process at `to` serve the connection from now on, beginning with `data`; False when it does not take it.

        `moves` is how often it has moved, with this. The socket stays open here: who calls closes it, and nothing else.
        """

    def refuge(self) -> str | None:
        """Where a connection goes that has to leave; None where there is no such process."""


@dataclass(frozen=True)
class Moved(trio.abc.AsyncResource):
    """A connection that another process has begun to serve, as a listener's `accept` may return it."""

    stream: trio.SocketStream
    first: bytes
    """What has been read of it, and is to be served."""
    moves: int
    """How often it has moved."""

    async def aclose(self) -> None:
        """Close it."""
        await self.stream.aclose()


class Departure:
    """The way out of a connection: of the socket that it has, if it has a plain one. `moves` is how often it has moved."""

    __slots__ = ("_connected", "_mover", "gone", "moves")

    def __init__(self, mover: Mover, connected: socket.socket, moves: int) -> None:
        self._mover = mover
        self._connected = connected
        self.moves: int = moves
        self.gone: bool = False
        """It has left: not a byte may be read or sent here any more, and the socket is closed without a word."""

    @property
    def is_due(self) -> bool:
        """Whether all connections have to leave."""
        return self._mover.departing.is_set()

    async def leave(self, data: bytes) -> bool:
        """Go wherever there is another process, with the bytes that were read; whether that worked."""
        to = self._mover.refuge()
        return to is not None and len(data) <= MOST_BYTES and await self._go(data, to)

    async def go(self, head: Head, content: bytes, rest: bytes, to: str) -> bool:
        """Go to the process at `to`, with the request of that head and content, and with `rest`; whether that worked.

        A request without a length, or that waits for a 100, cannot be sent again as it came.
        """
        data = head.raw + content + rest
        again = not head.chunked and not head.expects_continue and len(content) == head.content_length
        return again and len(data) <= MOST_BYTES and self.moves < MOST_MOVES and await self._go(data, to)

    async def _go(self, data: bytes, to: str) -> bool:
        self.gone = await self._mover.move(self._connected, data, self.moves + 1, to)
        return self.gone
