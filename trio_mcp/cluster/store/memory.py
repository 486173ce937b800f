"""The store in this process' memory: for tests, and for nodes that share one process. Times are on Trio's clock.

node1 ── MemoryStore ──┐
node2 ── MemoryStore ──┼──▶ SharedMemory    records, tombstones, cards, names, changes, subscriptions
node3 ── MemoryStore ──┘

An outage concerns one node (`MemoryStore.cut`, `delay`) or all (`SharedMemory.stop`, `freeze`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from trio_mcp.cluster.store.port import Operation, StoreDown
from trio_mcp.cluster.store.shared_memory import SharedMemory

__all__ = ["MemoryStore", "SharedMemory"]

PATIENCE_SECONDS = 1.5
"""How long a node waits for a store that does not answer: as long as for Redis."""

RETRY_SECONDS = 1.0
"""Between two attempts to subscribe."""


class MemoryStore:
    """One node's way to the shared memory; implements `Store`."""

    def __init__(self, memory: SharedMemory, *, patience: float = PATIENCE_SECONDS) -> None:
        """Operations that take longer than `patience`, in seconds, fail."""
        self.memory = memory
        self._patience = patience
        self.delay: float = 0.0
        """Seconds before an operation is done; one that would take longer than the patience fails, undone."""
        self._is_cut = False
        self._subscription: trio.MemorySendChannel[bytes] | None = None

    @property
    def shown(self) -> str:
        """Always the same."""
        return "memory"

    @property
    def noun(self) -> str:
        """Always the same."""
        return "memory"

    def name_of(self, operation: Operation) -> str:
        """The name of its type."""
        return type(operation).__name__

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """The results, in order; raises StoreDown."""
        await trio.lowlevel.checkpoint()
        if self.delay:
            await trio.sleep(min(self.delay, self._patience))
        if self.delay > self._patience:
            raise StoreDown(f"no answer within {self._patience:g} s")
        self._reach()
        await self.memory.thawed(operations, self._patience)
        self._reach()
        return [self.memory.do(operation) for operation in operations]

    async def listen(self, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Hear the channel's messages until cancelled; see `Store.listen`."""
        while True:
            if self.memory.answers and not self._is_cut:
                await self._attend(hear, joined)
            await trio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def cut(self) -> None:
        """Until `mend` this node does not reach the memory: operations fail at once, and its subscription breaks."""
        self._is_cut = True
        self._unsubscribe()

    def mend(self) -> None:
        """Let operations reach the store again; the subscription is taken up again within `RETRY_SECONDS`."""
        self._is_cut = False

    async def _attend(self, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        self._subscription, messages = self.memory.subscribe()
        try:
            joined()
            async for message in messages:
                hear(message)
        finally:
            self._unsubscribe()
            messages.close()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self.memory.unsubscribe(self._subscription)

    def _reach(self) -> None:
        if self._is_cut or not self.memory.runs:
            raise StoreDown("connection refused")
