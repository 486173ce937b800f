"""The store in Redis: each operation is one command, and what Redis replies becomes the operation's result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from trio_mcp.cluster.record import SESSION_SECONDS, TOMBSTONE_SECONDS, OwnershipChange, moved_message
from trio_mcp.cluster.redis import scripts
from trio_mcp.cluster.redis.client import RedisClient
from trio_mcp.cluster.redis.connection import Command
from trio_mcp.cluster.redis.task_commands import TASK_COMMAND_NAMES, TaskKeys, task_command, task_result
from trio_mcp.cluster.store.port import (
    AddNode,
    Beat,
    CardSecondsLeft,
    ChangesFrom,
    ClaimRecord,
    EndSession,
    FindSessions,
    HasCard,
    LastChange,
    Leave,
    NewestNodes,
    NodesSeen,
    OpenRecord,
    Operation,
    OperationRefused,
    OwnRecord,
    Publish,
    PutBackRecord,
    ReadCard,
    ReadRecord,
    ReadTombstone,
    RemoveNode,
    RemoveNodesBefore,
)
from trio_mcp.cluster.store.task_operations import TaskOperation
from trio_mcp.defaults import REDIS_PREFIX

__all__ = ["Keys", "RedisStore"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys; all of a cluster start with its prefix."""

    prefix: str

    def session(self, session_id: str) -> str:
        return f"{self.prefix}:session:{session_id}"

    def closed(self, session_id: str) -> str:
        return f"{self.prefix}:closed:{session_id}"

    def node(self, node: str) -> str:
        return f"{self.prefix}:node:{node}"

    @property
    def tasks(self) -> TaskKeys:
        """Those of tasks."""
        return TaskKeys(self.prefix)

    @property
    def nodes(self) -> str:
        """A sorted set of node names, by when each was last seen, so that no node has to scan for them."""
        return f"{self.prefix}:nodes"

    @property
    def bus(self) -> str:
        """The pub/sub channel."""
        return f"{self.prefix}:bus"

    @property
    def moves(self) -> str:
        """A stream of the last claims and ends."""
        return f"{self.prefix}:moves"


class RedisStore:
    """Implements `Store` over the Redis at `url`; the keys start with `prefix`. Times are in seconds.

    Raises InvalidRedisUrl. A run of operations fails after `connect_timeout + command_timeout`.
    """

    def __init__(
        self, url: str, prefix: str = REDIS_PREFIX, *, connect_timeout: float = 0.5, command_timeout: float = 1.0
    ) -> None:
        self.keys: Final = Keys(prefix)
        self._client = RedisClient(url, connect_timeout=connect_timeout, command_timeout=command_timeout)

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        return self._client.shown

    @property
    def noun(self) -> str:
        """Always the same."""
        return "redis"

    def name_of(self, operation: Operation) -> str:
        """The Redis command."""
        return _NAMES[type(operation)]

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """One pipeline, no transaction; raises StoreDown."""
        replies = await self._client.run([_command(self.keys, operation) for operation in operations])
        return [
            reply if isinstance(reply, OperationRefused) else _result(self.keys, operation, reply)
            for operation, reply in zip(operations, replies, strict=True)
        ]

    async def listen(self, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Hear the channel's messages until cancelled; see `Store.listen`."""
        await self._client.listen(self.keys.bus, hear=hear, joined=joined)

    def close(self) -> None:
        """Close idle connections; those in use close when their commands end."""
        self._client.close()


_SCRIPTS = (OwnRecord, PutBackRecord, ClaimRecord, EndSession, Beat, Leave)
_NAMES = MappingProxyType(
    {
        ReadRecord: "GET",
        ReadTombstone: "GET",
        OpenRecord: "SET",
        FindSessions: "SCAN",
        ReadCard: "GET",
        HasCard: "EXISTS",
        CardSecondsLeft: "PTTL",
        AddNode: "ZADD",
        RemoveNode: "ZREM",
        RemoveNodesBefore: "ZREMRANGEBYSCORE",
        NewestNodes: "ZREVRANGE",
        NodesSeen: "ZRANGE",
        Publish: "PUBLISH",
        LastChange: "XREVRANGE",
        ChangesFrom: "XRANGE",
        **dict.fromkeys(_SCRIPTS, "EVAL"),
        **TASK_COMMAND_NAMES,
    }
)


def _command(keys: Keys, operation: Operation) -> Command:
    if isinstance(operation, TaskOperation):
        return task_command(keys.tasks, operation)
    match operation:
        case ReadRecord(session_id):
            return ("GET", keys.session(session_id))
        case ReadTombstone(session_id):
            return ("GET", keys.closed(session_id))
        case OpenRecord():
            return ("SET", keys.session(operation.session_id), operation.value, "EX", SESSION_SECONDS)
        case FindSessions(cursor, pattern, count):
            return ("SCAN", cursor, "MATCH", _literally(keys.session("")) + pattern, "COUNT", count)
        case ReadCard(node):
            return ("GET", keys.node(node))
        case HasCard(node):
            return ("EXISTS", keys.node(node))
        case CardSecondsLeft(node):
            return ("PTTL", keys.node(node))
        case AddNode(node, at):
            return ("ZADD", keys.nodes, at, node)
        case RemoveNode(node):
            return ("ZREM", keys.nodes, node)
        case RemoveNodesBefore(at):
            return ("ZREMRANGEBYSCORE", keys.nodes, "-inf", at)
        case NewestNodes(limit):
            return ("ZREVRANGE", keys.nodes, 0, limit - 1)
        case NodesSeen():
            return ("ZRANGE", keys.nodes, 0, -1, "WITHSCORES")
        case Publish(message):
            return ("PUBLISH", keys.bus, message)
        case LastChange():
            return ("XREVRANGE", keys.moves, "+", "-", "COUNT", 1)
        case ChangesFrom(start, limit):
            return ("XRANGE", keys.moves, start, "+", "COUNT", limit)
    return _script(keys, operation)


def _script(keys: Keys, operation: OwnRecord | PutBackRecord | ClaimRecord | EndSession | Beat | Leave) -> Command:
    match operation:
        case Beat(node, boot, started, card, seconds, instead_of):
            return ("EVAL", scripts.BEAT, 1, keys.node(node), boot, started, card, seconds, instead_of)
        case Leave(node, boot):
            return ("EVAL", scripts.LEAVE, 1, keys.node(node), boot)
    session_id = operation.session_id
    where = keys.session(session_id), keys.closed(session_id), keys.moves
    match operation:
        case EndSession(_, stone, by):
            told = (
                b""
                if by == stone.boot
                else moved_message([OwnershipChange(session_id, stone.boot, stone.epoch, ended=True)])
            )
            written = msgspec.json.encode(stone), TOMBSTONE_SECONDS
            return ("EVAL", scripts.END, 3, *where, stone.boot, stone.epoch, *written, told, keys.bus)
        case PutBackRecord():
            record, written = operation.record, (operation.value, SESSION_SECONDS)
            return ("EVAL", scripts.PUT_BACK, 2, *where[:2], record.boot, record.epoch, *written)
    record, written = operation.record, (operation.value, SESSION_SECONDS)
    announced = moved_message([OwnershipChange(session_id, record.boot, record.epoch)]), keys.bus
    match operation:
        case OwnRecord():
            return ("EVAL", scripts.OWN, 3, *where, record.boot, record.epoch, *written, *announced)
        case ClaimRecord(seen=seen):
            as_seen = seen.boot, seen.epoch
            return ("EVAL", scripts.CLAIM, 3, *where, *as_seen, *written, *announced, int(seen.released))


def _result(keys: Keys, operation: Operation, reply: Any) -> Any:
    if isinstance(operation, TaskOperation):
        return task_result(keys.tasks, operation, reply)
    match operation:
        case CardSecondsLeft():
            return reply / 1000
        case NodesSeen():
            return [(name, float(seen)) for name, seen in zip(reply[::2], reply[1::2], strict=True)]
        case LastChange():
            return reply[0][0] if reply else None
        case ChangesFrom():
            return [(entry, fields[1] if len(fields) == 2 else b"") for entry, fields in reply]
        case FindSessions():
            cursor, names = reply
            start = keys.session("")
            return cursor, [name.decode("ascii", "replace").removeprefix(start) for name in names]
        case OpenRecord() | HasCard() | OwnRecord() | PutBackRecord() | ClaimRecord() | EndSession() | Beat() | Leave():
            return reply if isinstance(reply, bytes) and not isinstance(operation, OpenRecord) else bool(reply)
    return reply


def _literally(text: str) -> str:
    """What matches `text` and nothing else."""
    return "".join(f"\\{each}" if each in "*?[]\\" else each for each in text)
