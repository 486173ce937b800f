"""Text templates for YAML: lines that repeat, lines that depend, `@names@`.

    %% each node        the block once for every mapping in `values["node"]`, whose names hold inside
    %% if [not] secure  the block when `values["secure"]` is true (or is not)
    %% end

Comments and layout stay as the author wrote them, which no YAML library would leave alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

__all__ = ["render", "template"]

_DIRECTIVE = "%% "


def template(path: str) -> str:
    """The text of a template in this package."""
    return resources.files("trio_mcp.cli.export").joinpath("templates", *path.split("/")).read_text(encoding="utf-8")


def render(text: str, values: Mapping[str, Any]) -> str:
    """The template with its values; KeyError for a name that has none."""
    return "".join(_rendered(text.splitlines(keepends=True), values))


def _rendered(lines: Iterable[str], values: Mapping[str, Any]) -> Iterator[str]:
    rest = iter(lines)
    for line in rest:
        if line.startswith(_DIRECTIVE):
            block = list(_block(rest))
            for scope in _scopes(line.split()[1:], values):
                yield from _rendered(block, scope)
        else:
            yield re.sub(r"@(\w+)@", lambda name: str(values[name[1]]), line)


def _block(rest: Iterator[str]) -> Iterator[str]:
    """The lines up to the `end` that belongs to the directive just read."""
    depth = 1
    for line in rest:
        if line.startswith(_DIRECTIVE):
            depth += -1 if line.split()[1:] == ["end"] else 1
        if depth == 0:
            return
        yield line
    raise ValueError("a block of the template has no end")


def _scopes(directive: list[str], values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The values under which a block is written: one set for each time."""
    match directive:
        case ["each", name]:
            return [{**values, **item} for item in values[name]]
        case ["if", "not", name]:
            return [] if values[name] else [values]
        case ["if", name]:
            return [values] if values[name] else []
    raise ValueError(f"not a directive of templates: {' '.join(directive)}")
