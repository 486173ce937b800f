"""What a form to the client may contain, and whether what came back fills it in (client/elicitation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from trio_mcp.dispatch.questions import InvalidAnswer
from trio_mcp.protocol.versions import V2025_11_25

__all__ = ["Elicited", "Form"]

_PRIMITIVE = {"string", "number", "integer", "boolean"}
_ACTIONS = {"accept", "decline", "cancel"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Elicited(Generic[T]):
    """What the user did: `action` is accept, decline or cancel; `data` is the filled-in form when accepted."""

    action: str
    data: T | None = None

    @property
    def accepted(self) -> bool:
        """Whether the user agreed."""
        return self.action == "accept"

    @property
    def content(self) -> Any:
        """`data`, by its name on the wire."""
        return self.data


class Form:
    """A flat object of primitive fields, from a pydantic model or a JSON Schema."""

    def __init__(self, schema: type[BaseModel] | dict[str, Any]) -> None:
        self._model = schema if isinstance(schema, type) else None
        self.schema = _flatten(schema.model_json_schema()) if isinstance(schema, type) else schema
        _require_flat(self.schema)

    def for_version(self, version: str) -> dict[str, Any]:
        """The requested schema; before 2025-11-25 only booleans had defaults."""
        if version >= V2025_11_25:
            return self.schema
        properties = {
            name: field if field.get("type") == "boolean" else {k: v for k, v in field.items() if k != "default"}
            for name, field in self.schema["properties"].items()
        }
        return {**self.schema, "properties": properties}

    def read(self, result: dict[str, Any]) -> Elicited[Any]:
        """Check the client's ElicitResult; raises InvalidAnswer."""
        action = result.get("action")
        if action not in _ACTIONS:
            raise InvalidAnswer("The answer to an elicitation needs an action: accept, decline or cancel")
        if action != "accept":
            return Elicited(action)
        content = result.get("content", {})
        return Elicited(action, self._fill(content))

    def _fill(self, content: Any) -> Any:
        if self._model is not None:
            try:
                return self._model.model_validate(content)
            except ValidationError as error:
                raise InvalidAnswer(f"The form was not filled in as asked: {_first(error)}") from None
        import jsonschema_rs

        fault = next(jsonschema_rs.validator_for(self.schema).iter_errors(content), None)
        if fault is not None:
            raise InvalidAnswer(f"The form was not filled in as asked: {fault.message}")
        return content


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the form'}: {first['msg']}"


def _flatten(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic puts enums behind `$ref`, where no client looks."""
    definitions = schema.get("$defs", {})
    properties = {name: _inline(field, definitions) for name, field in schema.get("properties", {}).items()}
    flat: dict[str, Any] = {"type": "object", "properties": properties}
    if schema.get("required"):
        flat["required"] = schema["required"]
    return flat


def _inline(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    field = dict(field)
    for wrapper in ("allOf", "anyOf"):
        # `Optional[X]` is `anyOf: [X, null]`: a field the user may leave out.
        options = [option for option in field.get(wrapper, []) if option.get("type") != "null"]
        if len(options) == 1:
            del field[wrapper]
            field = {**options[0], **field}
    if "$ref" in field:
        field = {**definitions[field.pop("$ref").rsplit("/", 1)[1]], **field}
    if field.get("default", ...) is None:
        del field["default"]
    return field


def _require_flat(schema: dict[str, Any]) -> None:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise TypeError("A form is an object schema with properties")
    for name, field in properties.items():
        if field.get("type") not in _PRIMITIVE and not _is_choice(field):
            raise TypeError(f"A form has only text, number, boolean and choice fields; {name!r} is none of them")


def _is_choice(field: dict[str, Any]) -> bool:
    items = field.get("items", {}) if field.get("type") == "array" else field
    return any(keyword in items for keyword in ("enum", "oneOf", "anyOf"))
