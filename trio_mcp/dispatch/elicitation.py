"""Forms for the user: what one may contain, and whether an answer fills it in (client/elicitation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from trio_mcp.dispatch.questions import InvalidAnswer
from trio_mcp.features.ecma_patterns import is_ecma_pattern
from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.protocol.jsonrpc import optional_param
from trio_mcp.protocol.versions import V2025_11_25

__all__ = ["Elicited", "Form", "read_action"]

_PRIMITIVE = {"string", "number", "integer", "boolean"}
_FORMATS = {"email", "uri", "date", "date-time"}
_ACTIONS = ("accept", "decline", "cancel")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Elicited(Generic[T]):
    """What the user did with a question of `ctx.elicit` or `ctx.elicit_url`."""

    action: str
    """"accept", "decline" (the user said no) or "cancel" (the user closed it)."""
    data: T | None = None
    """The form as filled in, when it was accepted; None otherwise, and for a URL."""

    @property
    def accepted(self) -> bool:
        """Whether the user agreed."""
        return self.action == "accept"

    @property
    def content(self) -> T | None:
        """`data`, by its name on the wire."""
        return self.data


def read_action(result: dict[str, Any]) -> str:
    """What the user did; raises InvalidAnswer."""
    action = result.get("action")
    if action not in _ACTIONS:
        raise InvalidAnswer("The answer to an elicitation needs an action: accept, decline or cancel")
    return str(action)


class Form:
    """A flat object of primitive fields.

    `schema` is a pydantic model or a JSON Schema of type object; TypeError for one that is not flat, for clients have to show no
    other (2025-11-25 client/elicitation, requested schema).
    """

    def __init__(self, schema: type[BaseModel] | dict[str, Any]) -> None:
        self._model = _model(schema)
        self.schema: dict[str, Any] = _flatten(_written(self._model)) if self._model else cast("dict[str, Any]", schema)
        _require_flat(self.schema)

    def for_version(self, version: str) -> dict[str, Any]:
        """The schema to send in this protocol version; raises NoBackChannel for what the version has no form for."""
        if version >= V2025_11_25:
            return self.schema
        properties = {name: _of_2025_06_18(name, field) for name, field in self.schema["properties"].items()}
        return {**self.schema, "properties": properties}

    def read(self, result: dict[str, Any]) -> Elicited[Any]:
        """The client's ElicitResult, checked; raises InvalidAnswer."""
        action = read_action(result)
        if action != "accept":
            return Elicited(action)
        content = optional_param(result, "content", {})
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
    """The field as 2025-06-18 has it: titles of choices are a list, only booleans have defaults, and there is no multiple choice."""
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
    """The model's schema with every `$ref` replaced: pydantic puts enums behind them, and clients do not look there."""
    definitions = schema.get("$defs", {})
    properties = {name: _inline(field, definitions) for name, field in schema.get("properties", {}).items()}
    flat: dict[str, Any] = {"type": "object", "properties": properties}
    if schema.get("required"):
        flat["required"] = schema["required"]
    return flat


def _inline(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    field = _resolved(field, definitions)
    if isinstance(field.get("items"), dict):
        field["items"] = _resolved(field["items"], definitions)
        # The title and description of an enum class are those of its list already; clients show none for items.
        field["items"] = {key: value for key, value in field["items"].items() if key not in ("title", "description")}
    if field.get("default", ...) is None:
        del field["default"]
    if "const" in field:
        field["enum"] = [field.pop("const")]
    if field.get("format") not in _FORMATS:
        # Pydantic has more formats than clients know; the model checks the answer.
        field.pop("format", None)
    if not is_ecma_pattern(field.get("pattern", "")):
        del field["pattern"]  # Clients in JavaScript could not compile it; the model checks the answer.
    return field


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    field = dict(field)
    for wrapper in ("allOf", "anyOf"):
        # `Optional[X]` is `anyOf: [X, null]`: a field the user may leave out.
        options = [option for option in field.get(wrapper, []) if option.get("type") != "null"]
        if len(options) == 1:
            del field[wrapper]
            field = {**options[0], **field}
    if "$ref" in field:
        field = {**definitions[field.pop("$ref").rsplit("/", 1)[1]], **field}
    return field


class _FormSchema(GenerateJsonSchema):
    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """A number: pydantic would leave the choice between a number and text to the client."""
        return self.float_schema(schema)


def _written(model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema(schema_generator=_FormSchema)
    except PydanticInvalidForJsonSchema as error:
        raise TypeError(f"{model.__name__} is no form: {error.message}") from None


def _model(schema: Any) -> type[BaseModel] | None:
    """The class, None for a schema."""
    if isinstance(schema, dict):
        return None
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema
    kind = getattr(schema, "__name__", None) or repr(schema)
    raise TypeError(
        f"a form is a pydantic model or an object schema, not {kind}. Write class Form(BaseModel): value: {kind}"
        if schema in (str, int, float, bool)
        else f"a form is a pydantic model or an object schema, not {kind:.80}"
    )


def _require_flat(schema: dict[str, Any]) -> None:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise TypeError("A form is an object schema with properties")
    for name, field in properties.items():
        if not isinstance(field, dict) or not _is_field(field):
            raise TypeError(
                f"A form has only text, number, boolean and choice fields; {name!r} is {_kind(field)}. "
                "Ask for its parts in fields of their own, or with a question of their own"
            )


def _is_field(field: dict[str, Any]) -> bool:
    """Whether it is a PrimitiveSchemaDefinition, which all clients know how to show."""
    if field.get("type") == "array":
        items = field.get("items")
        return isinstance(items, dict) and items.get("type", "string") == "string" and _are_choices(items)
    if field.get("type") in _PRIMITIVE:
        return "anyOf" not in field and ("oneOf" not in field or _are_choices(field))
    return "type" not in field and "anyOf" not in field and _are_choices(field)


def _are_choices(field: dict[str, Any]) -> bool:
    """`enum` of strings, or strings with titles: `oneOf`, in lists `anyOf`."""
    titled = field.get("oneOf", field.get("anyOf"))
    if titled is None:
        choices = field.get("enum")
    else:
        choices = (
            [isinstance(each, dict) and each.get("const") for each in titled] if isinstance(titled, list) else None
        )
    return isinstance(choices, list) and bool(choices) and all(isinstance(each, str) for each in choices)


def _kind(field: Any) -> str:
    match field:
        case {"anyOf": _} | {"oneOf": _}:
            return "a union"
        case {"type": "array"}:
            return "a list of something else than choices"
        case {"type": "object"}:
            return "an object"
        case {"enum": _}:
            return "a choice of something else than text"
    return "none of them"
