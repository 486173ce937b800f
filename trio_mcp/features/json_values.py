"""Any Python value as a JSON value, by the same rules in results, structured content, logs and progress.

- Numbers stay numbers, numpy's too. A `Decimal` is a number where a float has the same digits, else text.
- NaN and infinities are null. Lone surrogates, which UTF-8 cannot encode, become question marks.
- Bytes are standard base64, as the specification's blobs.
- Models, dataclasses, dates, paths, … are what pydantic makes of them, any other object its `str`.
- Annotated values are what their schema says: `serializer` is pydantic's own but for bytes and `Any`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from typing import Any

import msgspec
from pydantic_core import PydanticSerializationError, SchemaSerializer, to_jsonable_python

from trio_mcp.features.validation_text import clean
from trio_mcp.protocol.errors import INTERNAL_ERROR, LocalProtocolError
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = [
    "SHORTEST_BEYOND",
    "base64",
    "beyond_double",
    "json_number",
    "json_text",
    "json_value",
    "sendable",
    "serializer",
    "unknown",
    "with_text",
]

_encode = msgspec.json.Encoder().encode


def json_value(value: Any) -> Any:
    """The JSON value; raises LocalProtocolError for one that refers to itself or is nested too deeply."""
    try:
        return _value(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_json(error) from error


def json_text(value: Any) -> str:
    """The compact JSON text of a JSON value; raises LocalProtocolError for one that JSON in UTF-8 cannot represent."""
    try:
        return _encode(value).decode()
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_json(error) from error


def sendable(wire: Any) -> Any:
    """The value itself if JSON in UTF-8 can represent it, else its `json_value`."""
    return with_text(wire)[0]


def with_text(value: Any) -> tuple[Any, str]:
    """The same, and its JSON text."""
    try:
        return value, _encode(value).decode()
    except (ValueError, TypeError, RecursionError):
        value = json_value(value)
        return value, json_text(value)


def json_number(value: Any) -> int | float | None:
    """A number of any type as an int or float; None for anything else, and for one that is not finite."""
    if not any(hasattr(value, name) for name in ("__index__", "__float__", "tolist")):
        return None
    try:
        number = _value(value)
        if isinstance(value, Decimal | Fraction) and isinstance(number, str):
            # No float has this value exactly; for progress the nearest will do.
            number = float(value)
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None
    if isinstance(number, bool):
        return int(number)
    return number if isinstance(number, int | float) and abs(number) <= _LARGEST else None


def beyond_double(value: Any, where: str = "$") -> str | None:
    """The path of an integer in a JSON value that is larger than any double; None without one."""
    if type(value) is int:
        return where if abs(value) > _LARGEST else None
    parts: Any = ()
    if type(value) is dict:
        parts = value.items()
    elif type(value) is list:
        parts = enumerate(value)
    for key, item in parts:
        if type(item) in _NUMBERS_OR_MORE and (found := beyond_double(item, f"{where}.{key}")):
            return found
    return None


_NUMBERS_OR_MORE = frozenset({int, dict, list})

SHORTEST_BEYOND = 309
"""Decimal digits of the smallest integer that no double holds."""

_LARGEST = float.fromhex("0x1.fffffffffffffp+1023")
"""JavaScript reads a larger number as Infinity."""


def base64(data: bytes | bytearray | memoryview) -> str:
    """Standard base64 (RFC 4648 §4), padded."""
    return b64encode(data).decode("ascii")


def unknown(value: Any) -> Any:
    """The JSON value of an object of a type that neither JSON nor pydantic knows."""
    if wire_name(value) is not None:
        return _value(to_wire(value))
    if isinstance(value, msgspec.Struct):
        return _value(msgspec.to_builtins(value, enc_hook=_value))
    # numpy's arrays and scalars, pandas' series, without an import of either.
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _value(value.tolist())
    if hasattr(value, "__index__"):
        return value.__index__()
    if hasattr(value, "__float__"):
        return _value(float(value))
    return _text(value)


def _value(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return clean(value)
    if kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if isfinite(value) else None
    if kind is dict:
        return {_key(key): _value(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_value(item) for item in value]
    return _other(value)


def _other(value: Any) -> Any:
    match value:
        case Enum():
            return _value(value.value)
        case str():
            return clean(value)
        case int():
            return int(value)
        case float():
            return _value(float(value))
        case Decimal():
            return _decimal(value)
        case Fraction():
            return _fraction(value)
        case bytes() | bytearray() | memoryview():
            return base64(value)
        case BaseException() | type():
            return _text(value)
    if wire_name(value) is not None or isinstance(value, msgspec.Struct):
        return unknown(value)
    kind: Any = type(value)
    known = getattr(kind, "__pydantic_core_schema__", None)
    if isinstance(known, dict):
        return _value(_model_serializer(kind).to_python(value, mode="json", by_alias=True, fallback=unknown))
    if is_dataclass(value):
        return {field.name: _value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _value(item) for key, item in value.items()}
    if isinstance(value, AbstractSet | Sequence | deque | Iterator | ValuesView):
        return [_value(item) for item in value]
    plain = to_jsonable_python(value, by_alias=True, inf_nan_mode="null", fallback=unknown)
    return clean(plain) if isinstance(plain, str) else plain


def _decimal(value: Decimal) -> Any:
    if not value.is_finite():
        return None
    if value == value.to_integral_value() and value.adjusted() < _DIGITS:
        return int(value)
    number = float(value)
    return number if isfinite(number) and Decimal(repr(number)) == value else str(value)


def _fraction(value: Fraction) -> Any:
    try:
        number = float(value)
    except OverflowError:
        return str(value)
    return number if Fraction(number) == value else str(value)


_DIGITS = 15
"""Decimal digits that every double represents exactly."""


def _text(value: Any) -> str:
    return clean(str(value)) or type(value).__name__


def _key(key: Any) -> str:
    """A mapping's key as a member name: an enum's value, bytes as base64, anything else as pydantic writes it."""
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return clean(key)
    if isinstance(key, bytes):
        return base64(key)
    try:
        [name] = to_jsonable_python({key: None})
    except PydanticSerializationError:
        name = str(key)
    return clean(name)


@lru_cache(maxsize=256)
def _model_serializer(model: type) -> SchemaSerializer:
    return serializer(model.__pydantic_core_schema__)  # type: ignore[attr-defined]


def serializer(core_schema: Any) -> SchemaSerializer:
    """Pydantic's serializer of a type, but with `json_value` for bytes and where the type says `Any`.

    A model that sets `ser_json_bytes` to anything but base64 keeps that; pydantic's own base64 is the URL-safe one.
    """
    # The last argument keeps pydantic from using the prebuilt serializers of nested models, which lack our changes.
    return SchemaSerializer(_with_our_rule(core_schema), None, False)


_OPAQUE = frozenset({"metadata", "default", "expected", "members", "serialization", "cls", "config"})
"""Members of a core schema that are no schemas themselves."""


def _with_our_rule(node: Any, bytes_too: bool = True) -> Any:
    if isinstance(node, list | tuple):
        return type(node)(_with_our_rule(item, bytes_too) for item in node)
    if not isinstance(node, dict):
        return node
    config = node.get("config")
    if isinstance(config, dict) and "ser_json_bytes" in config:
        bytes_too = config["ser_json_bytes"] == "base64"
    ours = {key: item if key in _OPAQUE else _with_our_rule(item, bytes_too) for key, item in node.items()}
    if "serialization" not in node and (node.get("type") == "any" or (node.get("type") == "bytes" and bytes_too)):
        ours["serialization"] = {"type": "function-plain", "function": _value, "when_used": "json"}
    return ours


def _no_json(error: Exception) -> LocalProtocolError:
    return LocalProtocolError(INTERNAL_ERROR, f"The handler returned what JSON cannot represent: {error}")
