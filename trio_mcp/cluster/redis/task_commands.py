"""The operations on tasks as Redis commands: a hash for each task, a set of ids for each node. Each script touches one key."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from trio_mcp.cluster.redis.connection import Command
from trio_mcp.cluster.store.task_operations import (
    LIST_SECONDS,
    AddTask,
    FindTasks,
    ReadTask,
    RemoveTask,
    SwapTask,
    TaskOperation,
    TaskRevision,
    TasksOf,
)

__all__ = ["TASK_COMMAND_NAMES", "TaskKeys", "task_command", "task_result"]

SWAP: Final = """
if (redis.call('HGET', KEYS[1], 'rev') or '') ~= ARGV[1] then return 0 end
local first = 5 + ARGV[4]
redis.call('HSET', KEYS[1], 'rev', ARGV[2], unpack(ARGV, first))
if first > 5 then redis.call('HDEL', KEYS[1], unpack(ARGV, 5, first - 1)) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

ADD: Final = """
redis.call('SADD', KEYS[1], ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

TASK_COMMAND_NAMES: Final = MappingProxyType(
    {
        ReadTask: "HGETALL",
        TaskRevision: "HGET",
        SwapTask: "EVAL",
        AddTask: "EVAL",
        RemoveTask: "SREM",
        TasksOf: "SRANDMEMBER",
        FindTasks: "SCAN",
    }
)


class TaskKeys:
    """Names of the keys of tasks; all of a cluster start with its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def task(self, task_id: str) -> str:
        """The hash of one task."""
        return f"{self._prefix}:task:{task_id}"

    def node(self, node: str) -> str:
        """The set of ids of the tasks that run on a node."""
        return f"{self._prefix}:tasks:{node}"


def task_command(keys: TaskKeys, operation: TaskOperation) -> Command:
    """The command for the operation."""
    match operation:
        case ReadTask(task_id):
            return ("HGETALL", keys.task(task_id))
        case TaskRevision(task_id):
            return ("HGET", keys.task(task_id), "rev")
        case AddTask(node, task_id):
            return ("EVAL", ADD, 1, keys.node(node), task_id, LIST_SECONDS)
        case RemoveTask(node, task_id):
            return ("SREM", keys.node(node), task_id)
        case TasksOf(node, limit):
            return ("SRANDMEMBER", keys.node(node), limit)
        case FindTasks(cursor, pattern, count):
            start = keys.task("").replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?").replace("[", "\\[")
            return ("SCAN", cursor, "MATCH", start + pattern, "COUNT", count)
        case SwapTask(task_id, seen, revision, fields, milliseconds, dropped):
            pairs = [each for pair in fields.items() for each in pair]
            key = keys.task(task_id)
            return ("EVAL", SWAP, 1, key, seen, revision, milliseconds, len(dropped), *dropped, *pairs)


def task_result(keys: TaskKeys, operation: TaskOperation, reply: Any) -> Any:
    """The operation's result, from Redis' reply."""
    match operation:
        case ReadTask():
            return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
        case SwapTask():
            return bool(reply)
        case FindTasks():
            cursor, names = reply
            return cursor, [name.decode("ascii", "replace").removeprefix(keys.task("")) for name in names]
    return reply
