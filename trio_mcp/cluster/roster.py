"""Who is where, as Redis tells it. For operators: no node ever scans."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from trio_mcp.cluster.membership import CARD_SECONDS, MISSED_BEAT_SECONDS
from trio_mcp.cluster.record import Keys, NodeCard, Record, read, read_record
from trio_mcp.cluster.redis.link import Command, CommandRefused, RedisDown, RedisLink
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
    link = RedisLink(url, connect_timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS)
    try:
        yield Roster(link, Keys(prefix))
    finally:
        link.close()


class Roster:
    """Every method raises RosterUnavailable."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self.keys = keys
        self._link = link

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies; none of them is a refusal."""
        replies = await self._run(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, CommandRefused):
                raise RosterUnavailable(f"{self._link.shown} refuses {command[0]!s}: {reply}")
        return replies

    async def nodes(self) -> list[NodeLine]:
        """Every node that was seen within a day, by name."""
        (pairs,) = await self.ask([("ZRANGE", self.keys.nodes, 0, -1, "WITHSCORES")])
        seen = {
            name.decode("ascii", "replace"): float(score) for name, score in zip(pairs[::2], pairs[1::2], strict=True)
        }
        names = [self.keys.node(name) for name in sorted(seen)]
        cards = await self.ask([("GET", name) for name in names]) if seen else []
        left = await self.ask([("PTTL", name) for name in names]) if seen else []
        return [_node_line(name, seen[name], *found) for name, *found in zip(sorted(seen), cards, left, strict=True)]

    async def card(self, node: str) -> NodeCard | None:
        """What the node says of itself; None when it does not."""
        (value,) = await self.ask([("GET", self.keys.node(node))])
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
        start = self.keys.session("")
        match = _literally(start) + pattern
        found: dict[str, SessionLine] = {}
        cursor = b"0"
        for _ in range(MAX_STEPS):
            ((cursor, keys),) = await self.ask([("SCAN", cursor, "MATCH", match, "COUNT", BATCH)])
            found |= await self._read([key.decode("ascii", "replace").removeprefix(start) for key in keys])
            if cursor == b"0" or len(found) > limit:
                return Found(list(found.values())[:limit], complete=len(found) <= limit)
        return Found(list(found.values()), complete=False)

    async def _read(self, ids: list[str]) -> dict[str, SessionLine]:
        """Of those that are still there. A key of another type is refused, and no record."""
        values = await self._run([("GET", self.keys.session(each)) for each in ids]) if ids else []
        found = zip(ids, values, strict=True)
        return {each: SessionLine(each, read_record(value)) for each, value in found if value is not None}

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await self._link.run(commands)
        except RedisDown as fault:
            raise RosterUnavailable(
                f"{self._link.shown} does not answer: {fault}. Is it what the nodes have as --redis-url?"
            ) from fault


def _node_line(name: str, seen: float, raw: Any, left: int) -> NodeLine:
    card = read(raw, NodeCard)
    ago = CARD_SECONDS - left / 1000 if card is not None and left > 0 else time.time() - seen
    return NodeLine(name, card, max(0.0, ago))


def _literally(text: str) -> str:
    """What matches `text` and nothing else."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
