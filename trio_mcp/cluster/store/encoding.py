"""Operations of the store and their results as bytes, for a store in another process.

An operation is its name and the fields that it is made from. Both ends have agreed that they mean the same (`serving/workers/messages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import msgspec

from trio_mcp.cluster.store.port import ChangesFrom, FindSessions, NodesSeen, Operation
from trio_mcp.cluster.store.task_operations import FindTasks, SwapTask

__all__ = ["decode_operations", "decode_results", "encode_operations", "encode_results"]

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Operation)}
_NAMES: dict[type[Any], list[str]] = {
    kind: [each.name for each in fields(kind) if each.init] for kind in _KINDS.values()
}
_TYPES: dict[type[Any], list[Any]] = {
    kind: [get_type_hints(kind)[name] for name in names] for kind, names in _NAMES.items()
}
# msgspec does not convert to a union of bytes and text; MessagePack keeps them apart by itself.
_TYPES[SwapTask][_NAMES[SwapTask].index("fields")] = dict[str, Any]
_RESULTS: dict[type[Any], Any] = {
    FindSessions: tuple[bytes, list[str]],
    FindTasks: tuple[bytes, list[str]],
    NodesSeen: list[tuple[bytes, float]],
    ChangesFrom: list[tuple[bytes, bytes]],
}
"""Types of results that do not come back from MessagePack as they were."""


def encode_operations(operations: Sequence[Operation]) -> bytes:
    """The operations, in order."""
    return msgspec.msgpack.encode([_packed(operation) for operation in operations])


def decode_operations(data: bytes) -> list[Operation]:
    """The operations; raises msgspec.MsgspecError, LookupError, TypeError, ValueError or RecursionError for bytes of another maker."""
    packed = msgspec.msgpack.decode(data, type=list[tuple[str, list[Any]]])
    return [_unpacked(_KINDS[name], values) for name, values in packed]


def encode_results(results: Sequence[Any]) -> bytes:
    """The results of operations, in order."""
    return msgspec.msgpack.encode(list(results))


def decode_results(operations: Sequence[Operation], data: bytes) -> list[Any]:
    """The results of `operations`; raises msgspec.MsgspecError."""
    results = msgspec.msgpack.decode(data, type=list[Any])
    kinds = [_RESULTS.get(type(operation), Any) for operation in operations]
    return [msgspec.convert(result, kind) for kind, result in zip(kinds, results, strict=True)]


def _packed(operation: Operation) -> tuple[str, list[Any]]:
    kind = type(operation)
    return kind.__name__, [getattr(operation, name) for name in _NAMES[kind]]


def _unpacked(kind: type[Any], values: list[Any]) -> Operation:
    operation: Operation = kind(
        *[msgspec.convert(value, wanted) for wanted, value in zip(_TYPES[kind], values, strict=True)]
    )
    return operation
