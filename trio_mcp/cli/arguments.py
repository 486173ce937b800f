"""What people write on a command line beside settings: flags that several commands share, headers, a tool's arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from trio_mcp.protocol.errors import McpError

__all__ = [
    "SILENCE_SECONDS",
    "Bearer",
    "ClientFlags",
    "Headers",
    "Insecure",
    "Json",
    "UsageError",
    "parse_arguments",
    "parse_headers",
    "refuse_undeclared",
    "undeclared",
]

SILENCE_SECONDS = 60.0
"""Four times the interval of a stream's keep-alive comments: a server that is silent so long is most likely gone."""


class UsageError(McpError):
    """The command line cannot be understood; exit code 2."""


Json: TypeAlias = Annotated[
    bool, Parameter("--json", negative=(), show_default=False, help="One JSON document on stdout.")
]
Headers: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter("--header", alias="-H", negative=(), show_default=False, help="`Name: value` sent with each request."),
]
Bearer: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--bearer",
        allow_leading_hyphen=True,
        help="A token to send: `@file`, `-` for stdin, or the token; or set TRIO_MCP_BEARER and TRIO_MCP_BEARER_URL.",
    ),
]
Insecure: TypeAlias = Annotated[
    bool,
    Parameter(
        "--insecure",
        negative=(),
        show_default=False,
        help="Take any TLS certificate of the server; send tokens without TLS.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ClientFlags:
    """How a command connects to the server it looks at, and prints what it finds."""

    as_json: Json = False
    legacy: Annotated[
        bool,
        Parameter(
            "--legacy", negative=(), show_default=False, help="Open a session (2025-11-25), do not try 2026-07-28."
        ),
    ] = False
    headers: Headers = ()
    bearer: Bearer = None
    insecure: Insecure = False
    timeout: Annotated[float, Parameter("--timeout", help="Give up after this many seconds without a byte.")] = (
        SILENCE_SECONDS
    )


def parse_headers(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of each `Name: value`; raises UsageError."""
    return [_parse_header(text) for text in texts]


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"expected a header such as 'Authorization: Bearer …', got {text!r}")
    return name.strip(), value.strip()


def parse_arguments(pairs: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a tool or a prompt, from `name=value` words and a schema of them.

    A value is JSON where it parses as JSON, else text; where the schema wants a string it is text. Raises UsageError for a
    word of another form, and for a name that comes twice.
    """
    properties = schema.get("properties", {})
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"expected an argument such as city=Berlin, got {pair!r}")
        if name in arguments:
            raise UsageError(f"{name} is given twice: leave one out, or write a list as {name}='[1, 2]'")
        arguments[name] = _value(text, _types(properties.get(name, {})))
    return arguments


def undeclared(arguments: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The arguments that the schema does not declare, most likely misspelt; none where it may allow others.

    Stricter than JSON Schema, which allows whatever it does not forbid: a schema that names arguments, in `properties` alone, is
    taken to name all of them. Servers ignore others without a word, and the tool runs with its defaults.
    """
    declared = schema.get("properties") or {}
    if schema.get("additionalProperties") is not False and (not declared or not _MAY_ALLOW_OTHERS.isdisjoint(schema)):
        return []
    return [name for name in arguments if name not in declared]


def refuse_undeclared(of: str, arguments: dict[str, Any], schema: dict[str, Any]) -> None:
    """Raises UsageError for arguments that the schema of the tool or prompt named `of` does not declare: see `undeclared`."""
    if strange := undeclared(arguments, schema):
        declared = ", ".join(schema.get("properties") or ()) or "none"
        raise UsageError(f"{of} has no argument {', '.join(strange)}; it has: {declared}")


_MAY_ALLOW_OTHERS = frozenset(
    [
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "dependentSchemas",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
        "$ref",
        "$dynamicRef",
    ]
)
"""Keywords beside `properties` by which a schema has more arguments."""


def _value(text: str, wanted: set[str]) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    # `zip=01234` is no JSON, but `zip=12345` is: only the schema says that both are text.
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
