"""`a=1 b=two` on a command line → a tool's arguments, by its schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from trio_mcp.protocol.errors import McpError

__all__ = ["UsageError", "parse_arguments", "unnamed"]


class UsageError(McpError):
    """The command line cannot be understood; exit code 2."""


def parse_arguments(pairs: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    """Values are JSON where they parse as JSON, else text; where the schema wants a string they are text.

    Raises UsageError for what is not NAME=VALUE.
    """
    properties = schema.get("properties", {})
    arguments = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"expected an argument such as city=Berlin, got {pair!r}")
        arguments[name] = _value(text, _types(properties.get(name, {})))
    return arguments


def unnamed(arguments: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The arguments that the schema does not name, unless it may take any: typing errors, most likely."""
    if (
        "properties" not in schema
        or schema.get("additionalProperties", False) is not False
        or "patternProperties" in schema
    ):
        return []
    return [name for name in arguments if name not in schema["properties"]]


def _value(text: str, wanted: set[str]) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    # `zip=01234` parses nowhere, but `zip=12345` does: only the schema knows that it is text.
    if "string" in wanted and not wanted - {"string"} & _types_of(value):
        return text
    return value


def _types(schema: Any) -> set[str]:
    """The JSON types a property may have, as far as it says so."""
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type", ())
    types = {declared} if isinstance(declared, str) else set(declared)
    if all(isinstance(value, str) for value in schema.get("enum", (None,))):
        types.add("string")
    return types.union(*map(_types, _alternatives(schema)))


def _alternatives(schema: dict[str, Any]) -> Iterable[Any]:
    for keyword in ("anyOf", "oneOf"):
        yield from schema.get(keyword, ())


def _types_of(value: Any) -> set[str]:
    match value:
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number"}
        case None:
            return {"null"}
        case list():
            return {"array"}
        case dict():
            return {"object"}
        case _:
            return {"string"}
