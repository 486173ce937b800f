"""What a form to the client may contain, and whether what came back fills it in (client/elicitation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from trio_mcp.dispatch.questions import InvalidAnswer
from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.protocol.versions import V2025_11_25

__all__ = ["Elicited", "Form", "read_action"]

_PRIMITIVE = {"string", "number", "integer", "boolean"}
_FORMATS = {"email", "uri", "date", "date-time"}
_ACTIONS = ("accept", "decline", "cancel")

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


def read_action(result: dict[str, Any]) -> str:
    """What the user did; raises InvalidAnswer."""
    action = result.get("action")
    if action not in _ACTIONS:
        raise InvalidAnswer("The answer to an elicitation needs an action: accept, decline or cancel")
    return str(action)


class Form:
    """A flat object of primitive fields, from a pydantic model or a JSON Schema."""

    def __init__(self, schema: type[BaseModel] | dict[str, Any]) -> None:
        self._model = schema if isinstance(schema, type) else None
        self.schema = _flatten(schema.model_json_schema()) if isinstance(schema, type) else schema
        _require_flat(self.schema)

    def for_version(self, version: str) -> dict[str, Any]:
        """The requested schema; raises NoBackChannel for what a version cannot ask."""
        if version >= V2025_11_25:
            return self.schema
        properties = {name: _of_2025_06_18(name, field) for name, field in self.schema["properties"].items()}
        return {**self.schema, "properties": properties}

    def read(self, result: dict[str, Any]) -> Elicited[Any]:
        """Check the client's ElicitResult; raises InvalidAnswer."""
        action = read_action(result)
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


def _of_2025_06_18(name: str, field: dict[str, Any]) -> dict[str, Any]:
    """Titles of choices had a list of their own, only booleans had defaults, and one choice was all one could make."""
    if field.get("type") == "array":
        raise NoBackChannel(f"A client of 2025-06-18 cannot be asked for several choices: {name}")
    choices = field.get("oneOf")
    if choices is not None:
        titles = [choice.get("title", choice["const"]) for choice in choices]
        field = {**field, "enum": [choice["const"] for choice in choices], "enumNames": titles}
    dropped = {"oneOf"} if field.get("type") == "boolean" else {"oneOf", "default"}
    return {member: value for member, value in field.items() if member not in dropped}


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
    if field.get("format") not in _FORMATS:
        # Pydantic has more of them than clients know; the model checks the answer.
        field.pop("format", None)
    return field


def _require_flat(schema: dict[str, Any]) -> None:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise TypeError("A form is an object schema with properties")
    for name, field in properties.items():
        if not isinstance(field, dict) or not (field.get("type") in _PRIMITIVE or _is_choice(field)):
            raise TypeError(f"A form has only text, number, boolean and choice fields; {name!r} is none of them")


def _is_choice(field: dict[str, Any]) -> bool:
    items = field.get("items", {}) if field.get("type") == "array" else field
    return any(keyword in items for keyword in ("enum", "oneOf", "anyOf"))
