"""Connections that go to another process of the same node, with the request that is not answered yet: what is sent, and who sends it.

 Departure ──▶ Mover.move ═══ the socket, the request, what is pipelined ═══▶ Receiver.take ──▶ connection
     ▲                                                                            │
     └──────────────── not taken: it is served where it was ◀────────────────────┘

A connection moves between two messages only: nothing of a response was sent. One whose request is not for the process that takes it is
answered from there all the same: where it goes is where it is served soonest, and decides nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from trio_mcp.transports.listener.wire import Address

__all__ = ["MOST_BYTES", "Moved", "Mover", "Receiver"]

MOST_BYTES = 64 * 1024
"""Of a request that goes along, with what is pipelined behind it. The process that takes it does not count so little for memory; a
larger request is answered where it is, and the connection goes with a later one."""


class Moved(msgspec.Struct, frozen=True, eq=False, array_like=True):
    """What goes along with the socket of a connection that another process is to serve: the message between two workers."""

    first: bytes
    """What has been read of it, and is to be served."""
    client: Address | None
    """As it was when the connection was accepted, which is cheaper to send along than to ask for."""
    server: Address | None
    key: int
    """Of the connection, in all processes."""
    parked: dict[str, float]
    """The URLs of the processes where it is parked, and since when, in seconds of the monotonic clock, which is the host's."""


class Receiver(Protocol):
    """Serves connections that come from other processes."""

    def take(self, moved: Moved, connected: socket.socket | None) -> bool:
        """Serve the connection, which is the receiver's from then on. False when it has no room for it, or no socket of it.

        `connected` is not blocking, and has the options that it was given when it was accepted. None: it is parked here.
        """

    def release_parked(self) -> None:
        """Another process has ended. Connections that it served are to end as well, so that no other process may keep a descriptor."""


class Mover(Protocol):
    """Takes connections to other processes of the node."""

    url: str
    """Of this process, as the others name it."""
    departing: trio.Event
    """Set when all connections shall leave, because this process is replaced."""

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        """Whether a connection that was accepted at this address may go: those of other workers, which relay, stay where they are."""

    def serve_with(self, receiver: Receiver | None) -> None:
        """Have `receiver` take each connection that comes; None: take no more."""

    def owner(self, data: bytes) -> str | None:
        """The process that is known to be the one for a request whose first bytes are `data`; None: this one, or it is not known."""

    def move(self, leaving: Moved, connected: socket.socket | None, to: str, answered: Callable[[bool], None]) -> bool:
        """Have the process at `to` serve the connection from now on; False when that is not possible. `connected` as in `Receiver.take`.

        After True nothing may be read or sent here until `answered` is called: with False when the connection was not taken. It must not
        block or raise.
        """

    def refuge(self) -> str | None:
        """Where a connection goes that has to leave; None where there is no such process."""

    async def settled(self) -> None:
        """Wait until none that was sent may come back any more."""
