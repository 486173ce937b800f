"""JSON Schemas as clients can read them.

Patterns that JavaScript cannot compile are left out (the TypeScript client would lose every tool of the server), small
definitions are copied to where they are used (not every client and model follows a `$ref`), and defaults that their own type
does not accept are left out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from trio_mcp.features.ecma_patterns import is_ecma_pattern
from trio_mcp.features.schemas import Validator

__all__ = ["readable", "subschemas_mapped", "without_foreign_patterns"]

logger: logging.Logger = logging.getLogger("trio_mcp.schemas")

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_ONES = frozenset(
    {
        *("items", "additionalItems", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
    }
)

_SMALL = 2_000
"""Characters: a definition of at most this size is copied to each place that refers to it."""


def readable(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """A schema of pydantic or msgspec as it is sent; `where` names it in the warning about a pattern."""
    schema = without_foreign_patterns(schema, where)
    schema = _inlined(schema)
    schema = _without_dangling_mappings(schema)
    return _without_refused_defaults(schema)


def subschemas_mapped(schema: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """The schema with `change` applied to each of its subschemas, innermost first, and to itself."""
    if not isinstance(schema, dict):
        return schema
    mapped = {}
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            value = {name: subschemas_mapped(item, change) for name, item in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            value = [subschemas_mapped(item, change) for item in value]
        elif keyword in _ONES:
            value = subschemas_mapped(value, change)
        mapped[keyword] = value
    return change(mapped)


# --- patterns


def without_foreign_patterns(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """The schema without patterns that JavaScript cannot compile; logs a warning for each."""
    dropped: list[str] = []

    def change(part: dict[str, Any]) -> dict[str, Any]:
        pattern = part.get("pattern")
        if isinstance(pattern, str) and not is_ecma_pattern(pattern):
            dropped.append(pattern)
            part = {keyword: value for keyword, value in part.items() if keyword != "pattern"}
        named = part.get("patternProperties")
        foreign = [name for name in named if not is_ecma_pattern(name)] if isinstance(named, dict) else []
        if foreign:
            dropped.extend(foreign)
            part = _without_pattern_properties(part, foreign)
        return part

    clean: dict[str, Any] = subschemas_mapped(schema, change)
    for pattern in dict.fromkeys(dropped):
        logger.warning(
            "%s: JavaScript cannot compile the pattern %r: it is left out of what clients see, and checked here",
            where,
            pattern,
        )
    return clean if dropped else schema


def _without_pattern_properties(part: dict[str, Any], foreign: list[str]) -> dict[str, Any]:
    named = part["patternProperties"]
    rest = {name: value for name, value in named.items() if name not in foreign}
    part = {keyword: value for keyword, value in part.items() if keyword != "patternProperties"}
    if rest:
        part["patternProperties"] = rest
    # Members with those names must stay allowed.
    allowed = {"anyOf": [named[name] for name in foreign]} if len(foreign) > 1 else named[foreign[0]]
    others = part.get("additionalProperties", None if not rest else True)
    if others is None or others is False:
        part["additionalProperties"] = allowed
    else:
        part["additionalProperties"] = True
    return part


# --- definitions


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with definitions copied to where they are used, if they do not recurse and are small or used once."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    if not definitions:
        return schema
    uses = Counter(_references(schema))
    recursive = {name for name in definitions if _reaches(definitions, name, name)}
    whole: dict[str, Any] = {}

    def expanded(name: str) -> dict[str, Any] | None:
        """The definition to put in place of a reference; None where the reference stays."""
        if name not in definitions or name in recursive:
            return None
        if name not in whole:
            body = subschemas_mapped(definitions[name], put)
            whole[name] = body if uses[name] == 1 or len(msgspec.json.encode(body)) <= _SMALL else None
        found: dict[str, Any] | None = whole[name]
        return found

    def put(part: dict[str, Any]) -> dict[str, Any]:
        body = expanded(_target(part))
        return part if body is None else _merged(body, {key: part[key] for key in part if key != "$ref"})

    flat: dict[str, Any] = subschemas_mapped({key: schema[key] for key in schema if key != "$defs"}, put)
    kept = {name: subschemas_mapped(body, put) for name, body in definitions.items() if expanded(name) is None}
    while unused := kept.keys() - set(_references({**flat, "$defs": kept})):
        kept = {name: body for name, body in kept.items() if name not in unused}
    return {**flat, "$defs": kept} if kept else flat


_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})


def _merged(body: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    """Notes beside a reference replace those of the definition; a constraint there holds in addition to its own."""
    if all(key in _NOTES or key not in body for key in beside):
        return {**body, **beside}
    return {"allOf": [body], **beside}


def _target(part: dict[str, Any]) -> str:
    reference = part.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else ""


def _references(schema: Any) -> list[str]:
    found: list[str] = []

    def note(part: dict[str, Any]) -> dict[str, Any]:
        if name := _target(part):
            found.append(name)
        return part

    subschemas_mapped(schema, note)
    return found


def _reaches(definitions: dict[str, Any], start: str, goal: str) -> bool:
    seen: set[str] = set()
    rest = [start]
    while rest:
        for name in _references(definitions.get(rest.pop(), {})):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                rest.append(name)
    return False


def _without_dangling_mappings(schema: dict[str, Any]) -> dict[str, Any]:
    """Without each `discriminator` (OpenAPI) whose mapping names definitions that were copied away."""
    known = {f"#/$defs/{name}" for name in schema.get("$defs", ())}

    def change(part: dict[str, Any]) -> dict[str, Any]:
        discriminator = part.get("discriminator")
        mapping = discriminator.get("mapping") if isinstance(discriminator, dict) else None
        if mapping is None or known.issuperset(mapping.values()):
            return part
        return {key: value for key, value in part.items() if key != "discriminator"}

    changed: dict[str, Any] = subschemas_mapped(schema, change)
    return changed


# --- defaults


def _without_refused_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}

    def change(part: dict[str, Any]) -> dict[str, Any]:
        # The default of a secret is shown as asterisks, which a client might send.
        secret = part.get("format") == "password"
        if "default" not in part or (not secret and _fits({**part, **definitions}, part["default"])):
            return part
        return {key: value for key, value in part.items() if key != "default"}

    changed: dict[str, Any] = subschemas_mapped(schema, change)
    return changed


def _fits(schema: dict[str, Any], default: Any) -> bool:
    try:
        if msgspec.json.decode(msgspec.json.encode(default)) != default:
            return False  # An infinity or NaN.
    except (ValueError, TypeError, RecursionError):
        return False
    plain = _evidently_fits(schema, default)
    return Validator(schema, formats=True).problem(default) is None if plain is None else plain


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _evidently_fits(schema: dict[str, Any], default: Any) -> bool | None:
    """The answer for usual defaults, without the 25 ms that the validator takes to import; None for others."""
    if schema.keys() <= {"$defs"} | _NOTES:
        return True
    options = schema.get("anyOf")
    if options is not None and schema.keys() <= {"anyOf", "$defs"} | _NOTES:
        answers = [_evidently_fits(option, default) for option in options]
        return True if True in answers else (None if None in answers else False)
    if "enum" in schema and all(isinstance(choice, str) for choice in schema["enum"]):
        return default in schema["enum"]
    kind = schema.get("type")
    if (
        not isinstance(kind, str)
        or not schema.keys() <= {"type", "format", "items", "additionalProperties", "$defs"} | _NOTES
    ):
        return None
    if kind in ("array", "object"):
        return default == ([] if kind == "array" else {}) or None
    if isinstance(default, bool) and kind != "boolean":
        return False
    return isinstance(default, _TYPES.get(kind, ()))
