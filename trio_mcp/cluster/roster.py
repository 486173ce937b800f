"""Who is where, as Redis tells it. For operators: no node ever scans."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from trio_mcp.cluster.membership import CARD_SECONDS, MISSED_BEAT_SECONDS
from trio_mcp.cluster.record import NodeCard, Record, read, read_record
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.store.port import (
    CardSecondsLeft,
    FindSessions,
    NodesSeen,
    Operation,
    OperationRefused,
    ReadCard,
    ReadRecord,
    Store,
    StoreDown,
)
from trio_mcp.protocol.errors import McpError

__all__ = ["Found", "NodeLine", "Roster", "RosterUnavailable", "SessionLine", "roster"]

CONNECT_SECONDS, COMMAND_SECONDS = 3.0, 5.0
"""A person may be far away from Redis; nodes are not, and wait for less."""

BATCH = 500
MAX_STEPS = 20_000
"""Ten million keys: whoever has more of them beside ours should not have them scanned."""

_NAME = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)?[A-Za-z0-9_-]+")


class RosterUnavailable(McpError):
    """Redis does not answer, or refuses to; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node; `card` is None for one that has gone without a word, or left."""

    name: str
    card: NodeCard | None
    seen_ago: float
    """Seconds since it last showed itself: by Redis' clock while its card stands, else by those of its host and ours."""

    @property
    def is_stale(self) -> bool:
        """Its card stands, and should have been put up anew by now."""
        return self.card is not None and self.seen_ago > MISSED_BEAT_SECONDS


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session; `record` is None when its key holds something else."""

    id: str
    record: Record | None

    def is_with(self, card: NodeCard | None) -> bool:
        """Whether the process that has it runs, going by its node's card."""
        return card is not None and self.record is not None and card.boot == self.record.boot


@dataclass(frozen=True, slots=True)
class Found:
    """Sessions; not `complete` when there are more than were asked for."""

    sessions: list[SessionLine]
    complete: bool


@asynccontextmanager
async def roster(url: str, prefix: str) -> AsyncIterator[Roster]:
    """What Redis at `url` knows of the cluster with that prefix."""
    store = RedisStore(url, prefix, connect_timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS)
    try:
        yield Roster(store)
    finally:
        store.close()


class Roster:
    """Every method raises RosterUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, operations: Sequence[Operation]) -> list[Any]:
        """The results; none of them is a refusal."""
        replies = await self._run(operations)
        for operation, reply in zip(operations, replies, strict=True):
            if isinstance(reply, OperationRefused):
                raise RosterUnavailable(f"{self._store.shown} refuses {self._store.name_of(operation)}: {reply}")
        return replies

    async def nodes(self) -> list[NodeLine]:
        """Every node that was seen within a day, by name."""
        (pairs,) = await self.ask([NodesSeen()])
        seen = {name.decode("ascii", "replace"): at for name, at in pairs}
        names = sorted(seen)
        cards = await self.ask([ReadCard(name) for name in names]) if seen else []
        left = await self.ask([CardSecondsLeft(name) for name in names]) if seen else []
        return [_node_line(name, seen[name], *found) for name, *found in zip(names, cards, left, strict=True)]

    async def card(self, node: str) -> NodeCard | None:
        """What the node says of itself; None when it does not."""
        (value,) = await self.ask([ReadCard(node)])
        return read(value, NodeCard)

    async def session(self, session_id: str) -> SessionLine | None:
        """One session by its full id."""
        return (await self._read([session_id])).get(session_id)

    async def sessions(self, limit: int) -> Found:
        """Sessions, `limit` of them at most."""
        return await self._scan("*", limit)

    async def named(self, name: str, limit: int) -> Found:
        """Those whose id is `name`, or begins so behind the node's; `node1.abc` is one of node1's."""
        if not _NAME.fullmatch(name):
            return Found([], complete=True)
        if "." in name and (exact := await self.session(name)) is not None:
            return Found([exact], complete=True)
        return await self._scan(f"{name if '.' in name else f'*.{name}'}*", limit)

    async def _scan(self, pattern: str, limit: int) -> Found:
        found: dict[str, SessionLine] = {}
        cursor = b"0"
        for _ in range(MAX_STEPS):
            ((cursor, ids),) = await self.ask([FindSessions(cursor, pattern, BATCH)])
            found |= await self._read(ids)
            if cursor == b"0" or len(found) > limit:
                return Found(list(found.values())[:limit], complete=len(found) <= limit)
        return Found(list(found.values()), complete=False)

    async def _read(self, ids: list[str]) -> dict[str, SessionLine]:
        """Of those that are still there. A key of another type is refused, and no record."""
        values = await self._run([ReadRecord(each) for each in ids]) if ids else []
        found = zip(ids, values, strict=True)
        return {each: SessionLine(each, read_record(value)) for each, value in found if value is not None}

    async def _run(self, operations: Sequence[Operation]) -> list[Any]:
        try:
            return await self._store.run(operations)
        except StoreDown as fault:
            raise RosterUnavailable(
                f"{self._store.shown} does not answer: {fault}. Is it what the nodes have as --redis-url?"
            ) from fault


def _node_line(name: str, seen: float, raw: Any, left: float) -> NodeLine:
    card = read(raw, NodeCard)
    ago = CARD_SECONDS - left if card is not None and left > 0 else time.time() - seen
    return NodeLine(name, card, max(0.0, ago))
