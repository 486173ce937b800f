"""Validation errors as text for a model: which argument, what was expected, what was sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pydantic

__all__ = ["clean", "fault_lines", "shown", "too_many", "validation_text"]

_MOST = 20
"""Faults listed in one text."""
_TOO_MANY = 200
"""Beyond this they are only counted: a request of 4 MiB can have a million faults, and listing them takes seconds."""
_LONGEST = 300
"""Characters of one message: some quote what the client sent."""
_LONGEST_VALUE = 60


def validation_text(error: pydantic.ValidationError | RecursionError) -> str:
    """One line for each fault, "- path: what was expected; got what"."""
    if isinstance(error, RecursionError):
        return "- nested too deeply"
    if too_many(error):
        return f"- {error.error_count()} values do not fit; compare their types with the schema's"
    return fault_lines(
        (fault["loc"], "missing, but required" if fault["type"] == "missing" else _sentence(fault))
        for fault in error.errors(include_url=False, include_context=False)
    )


def too_many(error: pydantic.ValidationError) -> bool:
    """Whether it has too many faults to list."""
    return error.error_count() > _TOO_MANY


def fault_lines(faults: Iterable[tuple[Sequence[Any], str]]) -> str:
    """The text of `(path, message)` pairs."""
    lines = [f"- {_path(path)}: {_cut(message)}" if path else f"- {_cut(message)}" for path, message in faults]
    if len(lines) > _MOST:
        lines[_MOST:] = [f"- and {len(lines) - _MOST} more"]
    return clean("\n".join(lines))


def shown(value: Any) -> str:
    """A JSON value, or what it is when it is long."""
    match value:
        case str() if len(value) > _LONGEST_VALUE:
            return f"a string of {len(value)} characters"
        case int() if abs(value) >= 1 << 64:
            return "a very large integer"
        case None | bool() | int() | float() | str():
            return msgspec.json.encode(clean(value) if isinstance(value, str) else value).decode()
        case list():
            return f"an array of {len(value)}"
        case dict():
            return f"an object with {len(value)} members"
    return f"a value of type {type(value).__name__}"


def clean(text: str) -> str:
    """The text as a plain `str`, with question marks for lone surrogates, which UTF-8 cannot encode."""
    return str.__str__(text) if text.isascii() else text.encode("utf-8", "replace").decode()


def _sentence(fault: Any) -> str:
    return f"{fault['msg']}; got {shown(fault['input'])}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _path(path: Sequence[Any]) -> str:
    """`items[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return _cut(text.removeprefix("."))
