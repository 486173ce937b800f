"""JSON Schema 2020-12: as pydantic writes it for a type, and as jsonschema-rs checks values against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from trio_mcp.features.complaints import list_complaints
from trio_mcp.protocol.errors import InvalidArguments

__all__ = ["PlainJsonSchema", "Validator", "inline_root"]


class PlainJsonSchema(GenerateJsonSchema):
    """Without the titles pydantic makes up from names: a model pays for them in tokens and learns nothing."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


class Validator:
    """Checks values against one schema; raises ValueError when it is no schema or refers to another document.

    "MUST NOT automatically dereference" a network `$ref`  2026-07-28 basic/index
    """

    __slots__ = ("_iter_errors", "is_valid")

    def __init__(self, schema: dict[str, Any]) -> None:
        # Imported late: a server whose schemas all come from annotations starts 25 ms sooner.
        import jsonschema_rs

        try:
            validator = jsonschema_rs.validator_for(schema, offline=True, mask=_MASK)
        except ValueError as error:
            raise ValueError(f"not a usable JSON Schema: {str(error).partition(_DETAILS)[0]}") from None
        self._iter_errors = validator.iter_errors
        self.is_valid: Callable[[Any], bool] = validator.is_valid

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a JSON value, one line for each fault, or None."""
        try:
            faults = [(fault.instance_path, fault.message) for fault in self._iter_errors(value)]
        except (ValueError, RecursionError) as error:
            # Nested too deeply, a lone surrogate: nothing that JSON in UTF-8 can say.
            faults = [([], str(error))]
        return list_complaints(faults) if faults else None

    def check(self, arguments: dict[str, Any]) -> None:
        """Raise InvalidArguments unless they fit."""
        complaint = self.complaint(arguments)
        if complaint:
            raise InvalidArguments(complaint)


_MASK = "the value"
_DETAILS = "\n\nFailed validating"


def inline_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with a root that says its type, where a recursive type's root is but a `$ref`."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if not name:
        return schema
    return {**schema["$defs"][name], "$defs": schema["$defs"]}
