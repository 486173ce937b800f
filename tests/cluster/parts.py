"""A directory over a real Redis, and sessions to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.cluster.in_memory import MemoryRedis, network
from tests.rig.redis import RedisServer, redis_server
from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.reconciler import Reconciler
from trio_mcp.cluster.record import Identity
from trio_mcp.cluster.record_backups import RecordBackups
from trio_mcp.cluster.redis.store import Keys, RedisStore
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.memory import PATIENCE_SECONDS, MemoryStore
from trio_mcp.cluster.store.port import Store
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.dispatch.call import Client
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.directory import Snapshot

__all__ = ["ANN", "BOB", "KEYS", "DirectoryHarness", "directory_harness", "snapshot", "waiting_long"]

ANN, BOB = Principal("ann"), Principal("bob")
KEYS = Keys("mcp")

_WAITS = ("writer.GROUP_SECONDS", "directory.READ_SECONDS", "heartbeat.CATCH_UP_SECONDS")


@contextmanager
def waiting_long(seconds: float = 10.0) -> Iterator[None]:
    """A node waits a quarter of a second for Redis, or one, and then goes on without: on a busy machine also when Redis is
    well, and what comes then is something else, if just as right. Who tests what Redis says lets nodes wait longer.
    """
    with pytest.MonkeyPatch.context() as patch:
        for each in _WAITS:
            patch.setattr(f"trio_mcp.cluster.{each}", seconds)
        yield


def snapshot(session_id: str = "node1.abc", epoch: int = 0, who: Principal = ANN, **changes: Any) -> Snapshot:
    """A session of somebody's."""
    client = Client({"name": "test"}, {"roots": {}})
    return Snapshot(
        id=session_id,
        epoch=epoch,
        principal_digest=who.recorded_as,
        version="2025-11-25",
        client=client,
        created=1,
        **changes,
    )


@asynccontextmanager
async def shared_store(folder: Path) -> AsyncIterator[RedisServer | MemoryRedis]:
    """In memory where the test has its network there, else a Redis of its own."""
    if network() is not None:
        yield MemoryRedis()
        return
    async with redis_server(folder) as server:
        yield server


def way_to(redis: RedisServer | MemoryRedis, patience: float | None = None) -> Store:
    """One node's; it waits for `patience` seconds, or as long as nodes do."""
    if isinstance(redis, MemoryRedis):
        return MemoryStore(redis.memory, patience=patience or PATIENCE_SECONDS)
    return RedisStore(redis.url, connect_timeout=patience or 0.5, command_timeout=patience or 1.0)


@dataclass
class DirectoryHarness:
    """One node's directory, and what it gave up."""

    redis: RedisServer | MemoryRedis
    link: Store
    store: MeasuredStore
    trust: StoreTrust
    me: Identity
    directory: RedisDirectory
    reconciler: Reconciler
    metrics: Metrics
    lost: list[str] = field(default_factory=list)

    async def is_down(self) -> bool:
        """Whether the directory believes that Redis is away."""
        return self.store.down

    async def record(self, session_id: str = "node1.abc") -> Any:
        """What Redis has of a session."""
        raw = await self.redis.ask("GET", KEYS.session(session_id))
        return None if raw is None else msgspec.json.decode(raw)

    async def tombstone(self, session_id: str = "node1.abc") -> Any:
        """The tombstone."""
        raw = await self.redis.ask("GET", KEYS.closed(session_id))
        return None if raw is None else msgspec.json.decode(raw)


@asynccontextmanager
async def directory_harness(
    folder: Path,
    *,
    node: str = "node1",
    boot: str = "b1",
    restorable: bool = True,
    redis: RedisServer | MemoryRedis | None = None,
    in_haste: bool = False,
) -> AsyncIterator[DirectoryHarness]:
    """A directory with its writer running, over its own Redis or a given one; in haste it waits for it no longer than nodes do."""
    if redis is None:
        with nullcontext() if in_haste else waiting_long():
            async with (
                shared_store(folder) as server,
                directory_harness(folder, node=node, boot=boot, restorable=restorable, redis=server) as made,
            ):
                yield made
        return
    lost: list[str] = []
    link, me, metrics = way_to(redis), Identity(node, boot, f"http://{node}:8000"), Metrics()
    store = MeasuredStore(link, metrics)
    directory = RedisDirectory(store, RecordBackups(), me, metrics, restorable=restorable, not_ours=lost.append)
    reconciler = Reconciler(store, directory, lambda: ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.writer.write)
        yield DirectoryHarness(redis, link, store, store.trust, me, directory, reconciler, metrics, lost)
        nursery.cancel_scope.cancel()
    link.close()
