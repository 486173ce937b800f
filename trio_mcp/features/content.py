"""Python values as content blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any

from trio_mcp.features.json_values import json_text, json_value, sendable
from trio_mcp.features.validation_text import clean
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = ["block", "blocks", "is_block", "text_block"]

_BLOCKS: frozenset[str | None] = frozenset(
    {"TextContent", "ImageContent", "AudioContent", "ResourceLink", "EmbeddedResource"}
)


def text_block(text: str) -> dict[str, Any]:
    """A text block; what UTF-8 cannot encode becomes question marks."""
    return {"type": "text", "text": clean(text)}


def is_block(value: Any) -> bool:
    """Whether it is a content block, ours or of `mcp-types`."""
    return wire_name(value) in _BLOCKS


def blocks(value: Any) -> list[dict[str, Any]]:
    """A handler's return value as content blocks: none for None, one for each item of a collection that has blocks in it.

    Nested collections count too, so that an image in one stays an image. An iterator is read once.
    """
    if value is None:
        return []
    try:
        value = _items(value)
        return _flat(value) if _holds_blocks(value) else [block(value)]
    except RecursionError:
        return [block(value)]  # It raises the error for such a value.


def block(value: Any) -> dict[str, Any]:
    """One value as one block: itself, its text, or its JSON as text."""
    if type(value) is str:
        return text_block(value)
    if is_block(value):
        wire: dict[str, Any] = sendable(to_wire(value))
        return wire
    bare = json_value(value)
    return text_block(bare if isinstance(bare, str) else json_text(bare))


def _items(value: Any) -> Any:
    """Sequences and iterators as lists, nested ones too; any other value unchanged.

    A mapping with blocks among its values becomes a list of its keys and values in turn.
    """
    if isinstance(value, str | bytes | bytearray | memoryview | range) or is_block(value):
        return value
    if isinstance(value, Sequence | AbstractSet | deque | Iterator | ValuesView):
        return [_items(item) for item in value]
    if isinstance(value, Mapping):
        members = {key: _items(item) for key, item in value.items()}
        if any(map(_holds_blocks, members.values())):
            return [part for key, item in members.items() for part in (key, item)]
        return members
    return value


def _holds_blocks(value: Any) -> bool:
    return is_block(value) or (isinstance(value, list) and any(map(_holds_blocks, value)))


def _flat(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list) and _holds_blocks(value):
        return [found for item in value for found in _flat(item)]
    return [block(value)]
