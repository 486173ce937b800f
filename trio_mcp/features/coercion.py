"""Arguments that do not fit, read another way: null for one that is left out, JSON text where an array or object belongs.

Many clients and models send both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

__all__ = ["ROUNDS", "coerce"]

ROUNDS = 3
"""How often arguments are coerced: what a JSON text contained may need it as well."""

Path = tuple[str | int, ...]


def coerce(
    arguments: dict[str, Any],
    faults: Iterable[Sequence[Any]],
    *,
    optional: frozenset[str],
    blank: str | None,
    parse_json: bool = True,
) -> dict[str, Any] | None:
    """A copy of `arguments` in which values that do not fit are read another way, or None if there is none.

    - `faults`: where values do not fit, each a path of names and indexes; steps that the value does not have (pydantic
      names the members of a union) are ignored.
    - `optional`: the arguments that may be left out. One of them that is null, or equals `blank`, is left out.
    - A string that is JSON of anything but a string becomes that value, at any depth, unless `parse_json` is false.

    The copy may not fit either: the caller validates it again, and reports the first error if it does not.
    """
    changes: dict[Path, Any] = {}
    for fault in faults:
        path, value = _locate(arguments, fault)
        if len(path) == 1 and path[0] in optional and (value is None or value == blank):
            changes[path] = _LEFT_OUT
        elif parse_json and path and isinstance(value, str) and (parsed := _parse(value)) is not _NO_JSON:
            changes[path] = parsed
    return _changed(arguments, changes) if changes else None


_LEFT_OUT: Any = object()
_NO_JSON: Any = object()


def _locate(arguments: dict[str, Any], fault: Sequence[Any]) -> tuple[Path, Any]:
    path: list[str | int] = []
    value: Any = arguments
    for step in fault:
        if _has(value, step):
            value = value[step]
            path.append(step)
    return tuple(path), value


def _has(value: Any, step: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(step, str) and step in value
    return isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)


def _parse(text: str) -> Any:
    try:
        parsed = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return _NO_JSON
    return _NO_JSON if isinstance(parsed, str) else parsed


def _changed(arguments: dict[str, Any], changes: dict[Path, Any]) -> dict[str, Any]:
    """Copies each container on the way to a change once, and leaves `arguments` unchanged."""
    copies: dict[Path, Any] = {(): dict(arguments)}
    # Shorter paths first: a change may replace the container of another one.
    for path, new in sorted(changes.items(), key=lambda change: len(change[0])):
        if any(path[:length] in changes for length in range(1, len(path))):
            continue
        for length in range(1, len(path)):
            if path[:length] not in copies:
                parent = copies[path[: length - 1]]
                copies[path[:length]] = parent[path[length - 1]] = parent[path[length - 1]].copy()
        parent = copies[path[:-1]]
        if new is _LEFT_OUT:
            del parent[path[-1]]
        else:
            parent[path[-1]] = new
    result: dict[str, Any] = copies[()]
    return result
