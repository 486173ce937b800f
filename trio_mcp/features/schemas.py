"""JSON Schema 2020-12: as pydantic writes it for a type, and as jsonschema-rs checks values against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from trio_mcp.features.coercion import ROUNDS, coerce
from trio_mcp.features.validation_text import fault_lines, shown
from trio_mcp.protocol.errors import InvalidArguments

__all__ = ["PYTHON_PATTERNS", "PlainJsonSchema", "Validator", "inline_root"]

PYTHON_PATTERNS = pydantic.ConfigDict(regex_engine="python-re")
"""For patterns that pydantic's own engine does not compile."""


class PlainJsonSchema(GenerateJsonSchema):
    """Without the titles that pydantic makes from names: they cost a model tokens and say nothing new."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


class Validator:
    """Checks values against one schema; raises ValueError for one that is no JSON Schema or refers to another document.

    With `formats`, the keyword `format` is checked too. `what` names the schema in the error.

    "MUST NOT automatically dereference" a network `$ref`  2026-07-28 basic/index
    """

    __slots__ = ("_optional", "_validator")

    def __init__(self, schema: dict[str, Any], *, formats: bool = False, what: str = "it") -> None:
        # Imported here: a server whose schemas all come from annotations starts 25 ms sooner.
        import jsonschema_rs

        try:
            validator = jsonschema_rs.validator_for(schema, offline=True, mask=_MASK, validate_formats=formats)
        except ValueError as error:
            place = getattr(error, "instance_path", ())
            fault = fault_lines([(place, str(error).partition(_DETAILS)[0])])
            raise ValueError(f"{what} is not a usable JSON Schema:\n{fault}") from None
        self._validator = validator
        self._optional = frozenset(schema.get("properties", ())) - frozenset(schema.get("required", ()))

    def problem(self, value: Any) -> str | None:
        """What is wrong with a JSON value, one line for each fault, or None."""
        faults = self._faults(value)
        return fault_lines(faults) if faults else None

    def fit(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments if they fit, or as `coercion` reads them; raises InvalidArguments."""
        faults = first = self._faults(arguments)
        for _ in range(ROUNDS):
            coerced = coerce(arguments, (path for path, _ in faults), optional=self._optional, blank=None)
            if not faults or coerced is None:
                break
            arguments, faults = coerced, self._faults(coerced)
        if faults:
            raise InvalidArguments(f"Invalid arguments:\n{fault_lines(first)}")
        return arguments

    def _faults(self, value: Any) -> list[tuple[Sequence[Any], str]]:
        try:
            if self._validator.is_valid(value):
                return []
            # Listing all faults of a large value takes seconds, and clients send such values: of those only the first is listed.
            faults = self._validator.iter_errors(value) if _is_small(value) else [self._first(value)]
            return [(fault.instance_path, _sentence(fault)) for fault in faults]
        except (ValueError, RecursionError) as error:
            # Nested too deeply, or a lone surrogate: JSON in UTF-8 cannot represent it.
            return [([], str(error))]

    def _first(self, value: Any) -> Any:
        import jsonschema_rs

        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as fault:
            return fault
        raise ValueError("does not fit the schema")


_MASK = "the value"
_DETAILS = "\n\nFailed validating"
_SMALL = 1_000
"""Members and elements, nested ones included, of a value whose faults are all listed."""


def _is_small(value: Any) -> bool:
    count, rest = 0, [value]
    while rest and count <= _SMALL:
        item = rest.pop()
        if isinstance(item, dict | list):
            count += len(item)
            rest.extend((item.values() if isinstance(item, dict) else item) if count <= _SMALL else ())
    return count <= _SMALL


def _sentence(fault: Any) -> str:
    # For an object the message names the member that is wrong.
    return fault.message if isinstance(fault.instance, dict) else f"{fault.message}; got {shown(fault.instance)}"


def inline_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its root in place of a `$ref` to it, as recursive types have; the root must say its type."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if not name:
        return schema
    return {**schema["$defs"][name], "$defs": schema["$defs"]}
