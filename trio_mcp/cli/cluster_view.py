"""The cluster as its Redis shows it to an operator: which node has which session, and the end of one of them.

Only the command line asks in this way; no node ever scans for sessions.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import trio

from trio_mcp.cluster.membership import CARD_SECONDS, MISSED_BEAT_SECONDS
from trio_mcp.cluster.record import NodeCard, Record, Tombstone, end_message, read, read_record
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.store.port import (
    CardSecondsLeft,
    EndSession,
    FindSessions,
    NodesSeen,
    Operation,
    OperationRefused,
    Publish,
    ReadCard,
    ReadRecord,
    Store,
    StoreDown,
)
from trio_mcp.protocol.errors import McpError
from trio_mcp.sessions.close_reason import CloseReason

__all__ = [
    "BATCH",
    "END_SECONDS",
    "LOOK_SECONDS",
    "MAX_STEPS",
    "ClusterView",
    "EndResult",
    "FoundSessions",
    "RecordedSession",
    "RedisUnavailable",
    "SeenNode",
    "cluster_view",
]

CONNECT_SECONDS, COMMAND_SECONDS = 3.0, 5.0
"""Longer than nodes wait, for the operator's machine may be far away from Redis."""

BATCH = 500
MAX_STEPS = 20_000
"""Ten million keys. A Redis that has more of them beside ours should not be scanned."""

END_SECONDS = 3.0
"""How long a node has to end a session: milliseconds, and up to a second where its handlers clean up."""

LOOK_SECONDS = 0.05
"""Between two looks whether it has."""

_NAME = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)?[A-Za-z0-9_-]+")


class RedisUnavailable(McpError):
    """Redis does not answer, or refuses to; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node that was seen within a day; `card` is None when it has left, or its card has expired."""

    name: str
    card: NodeCard | None
    seen_ago: float
    """Seconds since its last heartbeat: by Redis' clock while its card stands, else by the clocks of its host and ours."""

    @property
    def is_stale(self) -> bool:
        """Its card stands, and should have been renewed by now."""
        return self.card is not None and self.seen_ago > MISSED_BEAT_SECONDS


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A session; `record` is None when its key holds something that is no record."""

    id: str
    record: Record | None

    def is_with(self, card: NodeCard | None) -> bool:
        """Whether the process that owns it runs, going by its node's card."""
        return card is not None and self.record is not None and card.boot == self.record.boot


@dataclass(frozen=True, slots=True)
class FoundSessions:
    """Sessions; not `complete` when there are more than the limit."""

    sessions: list[RecordedSession]
    complete: bool


class EndResult(Enum):
    """What came of ending a session."""

    ENDED = "its node ended it, or it had ended before"
    REMOVED = "no running node had it; its record is removed"
    UNANSWERED = "its node runs, and has not ended it"


@asynccontextmanager
async def cluster_view(url: str, prefix: str) -> AsyncIterator[ClusterView]:
    """The cluster whose nodes have that Redis URL and prefix."""
    store = RedisStore(url, prefix, connect_timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS)
    try:
        yield ClusterView(store)
    finally:
        store.close()


class ClusterView:
    """Reads what the nodes wrote. Every method raises RedisUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, operations: Sequence[Operation]) -> list[Any]:
        """The results of the operations, in order; an operation that Redis refuses raises, too."""
        replies = await self._run(operations)
        for operation, reply in zip(operations, replies, strict=True):
            if isinstance(reply, OperationRefused):
                raise RedisUnavailable(f"{self._store.shown} refuses {self._store.name_of(operation)}: {reply}")
        return replies

    async def try_each(self, operations: Sequence[Operation]) -> list[Any]:
        """The results of the operations, in order; of one that Redis refuses, OperationRefused."""
        return await self._run(operations) if operations else []

    async def nodes(self) -> list[SeenNode]:
        """Every node that was seen within a day, sorted by name."""
        (pairs,) = await self.ask([NodesSeen()])
        seen = {name.decode("ascii", "replace"): at for name, at in pairs}
        names = sorted(seen)
        cards = await self.ask([ReadCard(name) for name in names]) if seen else []
        left = await self.ask([CardSecondsLeft(name) for name in names]) if seen else []
        return [_seen_node(name, seen[name], *found) for name, *found in zip(names, cards, left, strict=True)]

    async def card(self, node: str) -> NodeCard | None:
        """The node's card; None when it has none."""
        (value,) = await self.ask([ReadCard(node)])
        return read(value, NodeCard)

    async def session(self, session_id: str) -> RecordedSession | None:
        """The session with that id; None when there is none."""
        return (await self._read([session_id])).get(session_id)

    async def sessions(self, limit: int) -> FoundSessions:
        """All sessions, `limit` of them at most."""
        return await self._scan("*", limit)

    async def named(self, name: str, limit: int) -> FoundSessions:
        """Sessions whose id is `name` or begins with it, `limit` of them at most; the part of the id in front of the dot may be left out."""
        if not _NAME.fullmatch(name):
            return FoundSessions([], complete=True)
        if "." in name and (exact := await self.session(name)) is not None:
            return FoundSessions([exact], complete=True)
        return await self._scan(f"{name if '.' in name else f'*.{name}'}*", limit)

    async def end(self, session_id: str) -> EndResult:
        """Ask the session's node to end it, and wait `END_SECONDS` at most; remove the record where no such node runs."""
        await self.ask([Publish(end_message(session_id))])
        with trio.move_on_after(END_SECONDS):
            while await self.session(session_id) is not None:  # noqa: ASYNC110  another process does it
                await trio.sleep(LOOK_SECONDS)
            return EndResult.ENDED
        return await self._remove(session_id)

    async def _remove(self, session_id: str) -> EndResult:
        """The tombstone also makes a node close its copy that was cut off from Redis."""
        found = await self.session(session_id)
        if found is None:
            return EndResult.ENDED
        record = found.record
        if record is None or (not record.released and found.is_with(await self.card(record.node))):
            return EndResult.UNANSWERED
        (removed,) = await self.ask([EndSession(session_id, Tombstone.of(record, CloseReason.DELETED), by="")])
        return EndResult.REMOVED if removed == 1 else EndResult.UNANSWERED

    async def _scan(self, pattern: str, limit: int) -> FoundSessions:
        found: dict[str, RecordedSession] = {}
        cursor = b"0"
        for _ in range(MAX_STEPS):
            ((cursor, ids),) = await self.ask([FindSessions(cursor, pattern, BATCH)])
            found |= await self._read(ids)
            if cursor == b"0" or len(found) > limit:
                return FoundSessions(list(found.values())[:limit], complete=len(found) <= limit)
        return FoundSessions(list(found.values()), complete=False)

    async def _read(self, ids: list[str]) -> dict[str, RecordedSession]:
        """Those that still exist. Redis refuses to read a key of another type; that is no record."""
        values = await self._run([ReadRecord(each) for each in ids]) if ids else []
        found = zip(ids, values, strict=True)
        return {each: RecordedSession(each, read_record(value)) for each, value in found if value is not None}

    async def _run(self, operations: Sequence[Operation]) -> list[Any]:
        try:
            return await self._store.run(operations)
        except StoreDown as fault:
            raise RedisUnavailable(
                f"{self._store.shown} does not answer: {str(fault).rstrip('.')}. Is it what the nodes have as --redis-url?"
            ) from fault


def _seen_node(name: str, seen: float, raw: Any, left: float) -> SeenNode:
    card = read(raw, NodeCard)
    ago = CARD_SECONDS - left if card is not None and left > 0 else time.time() - seen
    return SeenNode(name, card, max(0.0, ago))
