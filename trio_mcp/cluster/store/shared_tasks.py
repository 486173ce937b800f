"""The tasks that nodes share within one process, and the operations of `task_operations` on them, decided as Redis decides them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

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

__all__ = ["SharedTasks", "matching"]

_REVISION = b"rev"


class SharedTasks:
    """Hashes and lists of ids, each until it expires by `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.hashes: dict[str, tuple[dict[bytes, bytes], float]] = {}
        """By id: the fields, and when they expire."""
        self.lists: dict[str, tuple[dict[bytes, None], float]] = {}
        """By node: ids, and when they expire."""

    def clear(self) -> None:
        """Remove everything."""
        self.hashes.clear()
        self.lists.clear()

    def forget_expired(self) -> None:
        """Remove what has expired."""
        for name in list(self.hashes):
            self._hash(name)
        for node in list(self.lists):
            self._list(node)

    def do(self, operation: TaskOperation) -> Any:
        """Do one operation; its result, as `task_operations` says."""
        match operation:
            case ReadTask(task_id):
                return dict(self._hash(task_id))
            case TaskRevision(task_id):
                return self._hash(task_id).get(_REVISION)
            case SwapTask():
                return self._swap(operation)
            case AddTask(node, task_id):
                self.lists[node] = {**self._list(node), task_id.encode(): None}, self._clock() + LIST_SECONDS
            case RemoveTask(node, task_id):
                self._list(node).pop(task_id.encode(), None)
            case TasksOf(node, limit):
                return list(islice(self._list(node), limit))
            case FindTasks():
                return self._find(operation)
        return None

    def _hash(self, task_id: str) -> dict[bytes, bytes]:
        return _unexpired(self.hashes, task_id, self._clock())

    def _list(self, node: str) -> dict[bytes, None]:
        return _unexpired(self.lists, node, self._clock())

    def _swap(self, operation: SwapTask) -> bool:
        held = self._hash(operation.task_id)
        if held.get(_REVISION, b"") != operation.seen.encode():
            return False
        written = {name.encode(): _bytes(value) for name, value in operation.fields.items()}
        kept = {**held, **written, _REVISION: operation.revision.encode()}
        for name in operation.dropped:
            kept.pop(name.encode(), None)
        self.hashes[operation.task_id] = kept, self._clock() + operation.milliseconds / 1000
        return True

    def _find(self, operation: FindTasks) -> tuple[bytes, list[str]]:
        names = [name for name in list(self.hashes) if self._hash(name)]
        start = int(operation.cursor)
        end = start + operation.count
        found = [name for name in names[start:end] if matching(operation.pattern).fullmatch(name)]
        return (b"%d" % end if end < len(names) else b"0"), found


def _unexpired(kept: dict[str, tuple[dict[bytes, Any], float]], name: str, now: float) -> dict[bytes, Any]:
    found, until = kept.get(name, ({}, 0.0))
    if until <= now:
        kept.pop(name, None)
        return {}
    return found


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def matching(pattern: str) -> re.Pattern[str]:
    """What a pattern of a scan matches: `*` is any text."""
    return re.compile("".join(_pieces(pattern)), re.DOTALL)


def _pieces(text: str) -> Iterator[str]:
    for each in text:
        yield ".*" if each == "*" else re.escape(each)
