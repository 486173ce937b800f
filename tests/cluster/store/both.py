"""What the contract of stores is tried on: `Both`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import trio

from tests.rig.redis import RedisServer
from trio_mcp.cluster.redis.store import Keys, RedisStore
from trio_mcp.cluster.store.encoding import decode_operations, encode_results
from trio_mcp.cluster.store.linked import LinkedStore
from trio_mcp.cluster.store.memory import MemoryStore, SharedMemory
from trio_mcp.cluster.store.port import Operation, Store

__all__ = ["KEYS", "Both", "in_memory", "in_redis", "linked"]

KEYS = Keys("mcp")


@dataclass
class Both:
    """Two nodes' ways to one store."""

    here: Store
    there: Store
    put: Callable[[str, str, bytes], Awaitable[None]]
    """Writes a value under "record", "tombstone" or "card", whatever it is."""
    expires_in: Callable[[str, str], Awaitable[float]]
    """Seconds until such a value expires."""

    async def do(self, operation: Operation) -> Any:
        """The result of one."""
        (result,) = await self.here.run([operation])
        return result


def in_memory() -> Both:
    memory = SharedMemory()
    shelves = {"record": memory.records, "tombstone": memory.tombstones, "card": memory.cards}

    async def put(kind: str, name: str, value: bytes) -> None:
        shelves[kind].put(name, value, 1_000)

    async def expires_in(kind: str, name: str) -> float:
        return shelves[kind].seconds_left(name)

    return Both(MemoryStore(memory), MemoryStore(memory), put, expires_in)


class MemoryLink:
    """A link that ends in the same process."""

    def __init__(self, memory: SharedMemory, nursery: trio.Nursery) -> None:
        self.memory = memory
        self._nursery = nursery

    async def request(self, operations: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return encode_results([self.memory.do(each) for each in decode_operations(operations)])

    async def subscribe(self, hear: Callable[[bytes], None]) -> None:
        await trio.lowlevel.checkpoint()
        _, messages = self.memory.subscribe()
        self._nursery.start_soon(self._pass_on, messages, hear)

    async def _pass_on(self, messages: trio.MemoryReceiveChannel[bytes], hear: Callable[[bytes], None]) -> None:
        with messages:
            async for message in messages:
                hear(message)


def linked(nursery: trio.Nursery) -> Both:
    both = in_memory()
    assert isinstance(both.here, MemoryStore)
    link = MemoryLink(both.here.memory, nursery)
    return replace(both, here=LinkedStore(link), there=LinkedStore(link))


def in_redis(server: RedisServer) -> Both:
    keys = {"record": KEYS.session, "tombstone": KEYS.closed, "card": KEYS.node}

    async def put(kind: str, name: str, value: bytes) -> None:
        await server.ask("SET", keys[kind](name), value.decode())

    async def expires_in(kind: str, name: str) -> float:
        return float(await server.ask("TTL", keys[kind](name)))

    return Both(RedisStore(server.url), RedisStore(server.url), put, expires_in)
