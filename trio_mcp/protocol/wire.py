"""From Python's values to MCP's JSON: the base of the classes in `protocol/types`, and what becomes of them and of their twins.

A twin is a class of the official packages, `mcp` and `mcp-types`: it is accepted wherever ours is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

__all__ = ["Made", "WireType", "class_wire_name", "to_wire", "wire_name"]

_TYPES = f"{__package__}.types"
_TWINS = frozenset({"mcp", "mcp_types"})
"""The packages they come from."""


class _AsOnTheWire(msgspec.StructMeta):
    """Lets classes be called with wire names as well: `mimeType=` for `mime_type=`, and `type=` where it is the right one."""

    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except TypeError:
                return super().__call__(*args, **_by_our_names(cls, fields))


def _by_our_names(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments under the names of the fields. Raises TypeError, with the fields there are, for any other."""
    tag = cls.__struct_config__.tag
    ours = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    fields = {}
    for name, value in given.items():
        if name == "type" and tag is not None and name not in ours:
            if value != tag:
                raise TypeError(f"{cls.__name__} is of type {tag!r}, not {value!r:.80}: leave type= out")
        elif name in ours or name in cls.__struct_fields__:
            fields[ours.get(name, name)] = value
        else:
            raise TypeError(f"{cls.__name__} has no field {name}; it has {', '.join(cls.__struct_fields__)}")
    return fields


class WireType(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, metaclass=_AsOnTheWire):
    """Base of the classes in `protocol/types`.

    Fields can be read and given under their wire names as well (`result.isError`, `mimeType=`), and a content block has a `type`.
    """

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name == "type" and kind.__struct_config__.tag is not None:
                return kind.__struct_config__.tag
            for wire, ours in zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True):
                if wire == name:
                    return getattr(self, ours)
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")


class Made:
    """Base of what is made from bytes or a file (`protocol/media`); `wire` is the content block it becomes."""

    wire: WireType
    wire_class: type[WireType]


def to_wire(value: Any) -> Any:
    """The JSON value of a WireType, of its twin, or of a mapping or sequence of them; any other value as it is."""
    if isinstance(value, Made):
        value = value.wire
    if isinstance(value, WireType):
        return msgspec.to_builtins(value, enc_hook=_twin_to_wire)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    return value


def wire_name(value: object) -> str | None:
    """The name that MCP has for the class of a value; None for a value that is neither a WireType nor a twin."""
    kind: type = type(value)
    return class_wire_name(kind)


@lru_cache(maxsize=1024)
def class_wire_name(kind: type) -> str | None:
    """The name that MCP has for a class, or a base of it; None for one that is neither a WireType nor a twin."""
    if issubclass(kind, Made):
        return kind.wire_class.__name__
    for base in kind.__mro__:
        if base.__module__ == _TYPES or base.__module__.partition(".")[0] in _TWINS:
            return base.__name__
    return None


def _twin_to_wire(value: Any) -> Any:
    """For what msgspec cannot encode inside a WireType: a twin, or a subclass of `str`."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Made) or hasattr(value, "model_dump"):
        return to_wire(value)
    raise TypeError(f"{type(value).__qualname__} has no place in {_TYPES}")
