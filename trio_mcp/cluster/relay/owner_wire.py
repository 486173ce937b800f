"""The owner's end of a relayed request: what it does not take or say in time, and how one learns that it never will."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from trio_mcp.cluster.relay.connections import Connection
from trio_mcp.cluster.relay.outcomes import Broken, OwnerLost, Unanswered

__all__ = ["OwnerWire", "Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a party may be silent, or take nothing; in seconds."""

    head: float
    """Then the owner is asked whether it lives. Most answer sooner; but the slow call of a client that takes only JSON
    has no early head."""
    body: float
    """The same within a response."""
    write: float
    """Who takes no byte for so long has lost its connection."""


class OwnerWire:
    """Sends and receives on `connection`, as long as the owner shows itself alive; `alive` asks it on another one."""

    __slots__ = ("_alive", "_connection", "_given_up", "_listening", "_patience", "silence")

    def __init__(self, connection: Connection, patience: Patience, alive: Callable[[], Awaitable[bool]]) -> None:
        self._connection = connection
        self._patience = patience
        self._alive = alive
        self._listening: trio.CancelScope | None = None
        self._given_up = False
        self.silence = patience.head
        """How long to listen before asking."""

    async def send(self, data: memoryview) -> None:
        """Hand over everything; raises OwnerLost."""
        # An owner that hung up may have answered before, and what it said is here: 413, say.
        with suppress(OSError):
            while data:
                with trio.move_on_after(self._patience.write) as deadline:
                    await self._watched(self._connection.writable)
                if deadline.cancelled_caught:
                    raise OwnerLost(Broken(), f"the owner took no byte for {self._patience.write:g} s")
                data = data[self._connection.send_now(data) :]

    async def receive(self) -> bytes:
        """Wait for bytes, empty at the owner's end; raises OwnerLost when it is silent too long and does not live."""
        while True:
            await self._watched(self._connection.readable)
            try:
                data = self._connection.receive_now()
            except OSError as error:
                raise OwnerLost(Broken(), f"receiving failed: {error}") from None
            if data is not None:
                return data

    def give_up(self) -> None:
        """This node stops: what has not come by now does not come any more."""
        self._given_up = True
        if self._listening is not None:
            self._listening.cancel("the node stops")

    async def _watched(self, ready: Callable[[], Awaitable[None]]) -> None:
        while not self._given_up:
            with trio.move_on_after(self.silence) as self._listening:
                return await ready()
            # What came while we asked says more than the answer.
            if not self._given_up and not await self._alive() and self._connection.is_quiet():
                raise OwnerLost(Unanswered(), f"the owner was silent for {self.silence:g} s and a probe of it failed")
        raise OwnerLost(Broken(), "this node stops")
