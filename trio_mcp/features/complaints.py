"""Validation failures in words a model can act on: which argument, what was expected, what came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pydantic

__all__ = ["clean", "complain", "list_complaints", "shown"]

_MOST = 20
"""Faults named in one text; a wrong array of thousands needs no more."""
_LONGEST = 300
"""Characters of one message; some quote what the client sent."""
_LONGEST_VALUE = 60


def complain(error: pydantic.ValidationError | RecursionError) -> str:
    """One line for each fault."""
    if isinstance(error, RecursionError):
        return "Invalid arguments: nested too deeply"
    return list_complaints(
        (fault["loc"], "missing, but required" if fault["type"] == "missing" else _sentence(fault))
        for fault in error.errors(include_url=False, include_context=False)
    )


def list_complaints(faults: Iterable[tuple[Sequence[Any], str]]) -> str:
    """The text of `(path, message)` pairs."""
    lines = [f"- {_path(path)}: {message}" if path else f"- {message}" for path, message in faults]
    if len(lines) > _MOST:
        lines[_MOST:] = [f"- and {len(lines) - _MOST} more"]
    return clean("\n".join(["Invalid arguments:", *lines]))


def shown(value: Any) -> str:
    """A JSON value in brief."""
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
    return f"a {type(value).__name__}"


def clean(text: str) -> str:
    """The text with what UTF-8 cannot carry (lone surrogates) replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _sentence(fault: Any) -> str:
    return f"{_cut(fault['msg'])}; got {shown(fault['input'])}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _path(path: Sequence[Any]) -> str:
    """`items[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return _cut(text.removeprefix("."))
