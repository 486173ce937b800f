"""Python values as JSON values and as content blocks."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from trio_mcp.features.complaints import clean
from trio_mcp.protocol.errors import INTERNAL_ERROR, LocalProtocolError
from trio_mcp.protocol.types import to_wire, wire_name

__all__ = ["block", "blocks", "is_block", "json_text", "jsonable", "text_block", "unknown"]

_BLOCKS: frozenset[str | None] = frozenset(
    {"TextContent", "ImageContent", "AudioContent", "ResourceLink", "EmbeddedResource"}
)

_encode = msgspec.json.Encoder().encode


def text_block(text: str) -> dict[str, Any]:
    """A text block that UTF-8 can carry whatever the text holds."""
    return {"type": "text", "text": clean(text)}


def is_block(value: Any) -> bool:
    """Whether it is a content block, ours or of `mcp-types`."""
    return wire_name(value) in _BLOCKS


def blocks(value: Any) -> list[dict[str, Any]]:
    """A handler's return value as content: None is nothing, a list with blocks in it is taken item by item."""
    if value is None:
        return []
    if isinstance(value, list | tuple) and any(map(is_block, value)):
        return [block(item) for item in value]
    return [block(value)]


def block(value: Any) -> dict[str, Any]:
    """One value as one block: itself, its text, or its JSON as text."""
    if type(value) is str:
        return text_block(value)
    if is_block(value):
        wire: dict[str, Any] = to_wire(value)
        json_text(wire)
        return wire
    bare = jsonable(value)
    return text_block(bare if isinstance(bare, str) else json_text(bare))


def jsonable(value: Any) -> Any:
    """The JSON value: pydantic's rules, bytes as base64, NaN and infinities as null; raises LocalProtocolError."""
    try:
        return to_jsonable_python(value, by_alias=True, bytes_mode="base64", inf_nan_mode="null", fallback=unknown)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from error


def json_text(value: Any) -> str:
    """A JSON value, compact; raises LocalProtocolError for what JSON in UTF-8 cannot say."""
    try:
        return _encode(value).decode()
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_json(error) from error


def unknown(value: Any) -> Any:
    """What stands for a type pydantic does not know: a msgspec struct's fields, else its string."""
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else str(value)


def _no_json(error: Exception) -> LocalProtocolError:
    return LocalProtocolError(INTERNAL_ERROR, f"The handler returned what JSON cannot say: {error}")
