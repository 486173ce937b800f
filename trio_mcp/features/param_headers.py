"""`x-mcp-header`: arguments that a client repeats as `Mcp-Param-*` headers, so that proxies can route by them.

Source: 2026-07-28 streamable-http and server/tools#x-mcp-header, SEP-2243. Servers "MUST reject" a request whose header
and argument disagree: a proxy may have routed or authorised the call by the header.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as InvalidBase64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = ["SENTINEL", "ParamHeader", "decode_sentinel", "mismatch", "param_headers"]

SENTINEL = "=?base64?"
"""The beginning of a header value in base64, for text that a header cannot carry."""

_KEY = "x-mcp-header"
_TYPES = ("integer", "string", "boolean")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §5.6.2."""
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NUMBER = re.compile(r"-?\d{1,32}(?:\.\d{1,32})?(?:[eE][+-]?\d{1,2})?")
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True)
class ParamHeader:
    """One argument and the header that repeats it; `path` leads to it through nested objects."""

    header: str
    path: tuple[str, ...]
    type: str


def param_headers(schema: dict[str, Any]) -> tuple[ParamHeader, ...]:
    """The headers that an input schema asks for; raises ValueError, with the property, for one that may not have a header."""
    found: list[ParamHeader] = []
    for where, subschema, path in _annotated(schema, (), "inputSchema"):
        header = _checked(subschema, path, where)
        twin = next((it for it in found if it.header.lower() == header.header.lower()), None)
        if twin:
            raise ValueError(f"{where}: {header.header} is already the header of {'.'.join(twin.path)}")
        found.append(header)
    return tuple(found)


def mismatch(
    headers: Callable[[str], list[str]], arguments: dict[str, Any], params: tuple[ParamHeader, ...]
) -> str | None:
    """The first disagreement between headers and arguments, or None; `headers` gives all values of a name."""
    for param in params:
        problem = _disagreement(headers(param.header), _value_at(arguments, param.path), param)
        if problem:
            return f"{param.header} {problem}"
    return None


def decode_sentinel(value: str) -> str:
    """The text in `=?base64?…?=`, any other value as it is; raises ValueError unless canonical base64 of UTF-8."""
    if not (value.startswith(SENTINEL) and value.endswith("?=") and len(value) >= len("=?base64??=")):
        return value
    encoded = value[len(SENTINEL) : -len("?=")]
    try:
        data = b64decode(encoded, validate=True)
        text = data.decode()
    except (InvalidBase64, UnicodeError):
        raise ValueError("is not base64 of UTF-8") from None
    if b64encode(data).decode() != encoded:
        raise ValueError("is not canonical base64")
    return text


# Keywords with subschemas. An annotated property must not be below one: its place in the arguments is uncertain.
_MAPS = ("patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_ONES = (
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
)


def _annotated(
    schema: Any, path: tuple[str, ...] | None, where: str
) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...] | None]]:
    """Every annotated subschema: its place in words, itself, its path in the arguments (None if not certain)."""
    if not isinstance(schema, dict):
        return
    if _KEY in schema:
        yield where, schema, path
    for name, subschema in _members(schema, "properties"):
        yield from _annotated(subschema, None if path is None else (*path, name), f"{where}.{name}")
    for keyword in _MAPS:
        for name, subschema in _members(schema, keyword):
            yield from _annotated(subschema, None, f"{where}.{keyword}.{name}")
    for keyword in _LISTS:
        branches = schema.get(keyword)
        for number, subschema in enumerate(branches if isinstance(branches, list) else ()):
            yield from _annotated(subschema, None, f"{where}.{keyword}[{number}]")
    for keyword in _ONES:
        yield from _annotated(schema.get(keyword), None, f"{where}.{keyword}")


def _members(schema: dict[str, Any], keyword: str) -> list[tuple[str, Any]]:
    members = schema.get(keyword)
    return list(members.items()) if isinstance(members, dict) else []


def _checked(schema: dict[str, Any], path: tuple[str, ...] | None, where: str) -> ParamHeader:
    name = schema[_KEY]
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{where}: {_KEY} is {name!r}, not the name of a header")
    if not path:
        raise ValueError(f"{where}: {_KEY} is only for properties, reached through nothing but properties")
    if schema.get("type") not in _TYPES:
        raise ValueError(f"{where}: {_KEY} needs the type integer, string or boolean, not {schema.get('type')!r}")
    return ParamHeader(f"Mcp-Param-{name}", path, schema["type"])


def _value_at(arguments: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(arguments, dict):
            return None
        arguments = arguments.get(name)
    return arguments


def _disagreement(values: list[str], argument: Any, param: ParamHeader) -> str | None:
    name = ".".join(param.path)
    if not values:
        # An argument of another type fails its own check later, with a better message.
        return f"is missing while the argument {name} is given" if isinstance(argument, str | int) else None
    if len(values) > 1:
        return "is given more than once"
    if argument is None:
        return f"is given while the argument {name} is not"
    value = values[0].strip(" \t")
    if not _VALUE.fullmatch(value):
        return "has characters that no header value may have"
    try:
        value = decode_sentinel(value)
    except ValueError as error:
        return str(error)
    return None if _same(value, argument) else f"does not match the argument {name}"


def _same(value: str, argument: Any) -> bool:
    match argument:
        case bool():
            return value == ("true" if argument else "false")
        case str():
            return value == argument
        case int() | float() if abs(argument) <= _SAFE_INTEGER:
            return _NUMBER.fullmatch(value) is not None and Decimal(value) == argument
    return False
