"""How a tool's return value becomes `structuredContent`, and the output schema that promises it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Signature
from typing import Any, get_args

import msgspec
import pydantic

from trio_mcp.features.callables import Unresolved, describe, return_annotation
from trio_mcp.features.complaints import complain
from trio_mcp.features.content import jsonable, unknown
from trio_mcp.features.schemas import PlainJsonSchema, Validator, inline_root
from trio_mcp.protocol.errors import INTERNAL_ERROR, LocalProtocolError
from trio_mcp.protocol.types import class_wire_name

__all__ = ["Output", "output_of", "output_with"]

_SCALARS: dict[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}


class Output:
    """A promise about return values; `wrapped` ones travel as `{"result": value}`, for only objects may stand alone."""

    __slots__ = ("_convert", "_validator", "scalar", "schema", "wrapped")

    def __init__(
        self,
        schema: dict[str, Any],
        convert: Callable[[Any], Any],
        *,
        wrapped: bool = False,
        scalar: type | None = None,
    ) -> None:
        self.schema = schema
        self.wrapped = wrapped
        self.scalar = scalar
        self._convert = convert
        self._validator: Validator | None = None

    def structured(self, value: Any) -> Any:
        """The `structuredContent` of a return value; raises LocalProtocolError when it breaks the promise."""
        try:
            value = self._convert(value)
        except pydantic.ValidationError as error:
            raise self._broken(complain(error)) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise self._broken(f"- {error}") from error
        return self.checked({"result": value} if self.wrapped else value)

    def checked(self, structured: Any) -> Any:
        """The same value if it conforms to the schema."""
        complaint = self.validator.complaint(structured)
        if complaint:
            raise self._broken(complaint)
        return structured

    @property
    def validator(self) -> Validator:
        """Compiled when first needed: a tool that returns scalars never does."""
        if self._validator is None:
            self._validator = Validator(self.schema)
        return self._validator

    @staticmethod
    def _broken(why: str) -> LocalProtocolError:
        return LocalProtocolError(INTERNAL_ERROR, f"The tool's result does not conform to its output schema:\n{why}")


def output_with(schema: dict[str, Any]) -> Output:
    """A promise made by hand; the schema is sent as it stands."""
    output = Output(schema, jsonable)
    output.validator  # noqa: B018 - a schema that is none should fail at registration
    return output


def output_of(fn: Callable[..., Any], *, required: bool) -> Output | None:
    """The promise a return annotation makes; None without one, for None, Any and content types.

    With `required`, raises ValueError instead of giving None.
    """
    hint = return_annotation(fn)
    if isinstance(hint, Unresolved):
        raise ValueError(f"{describe(fn)}: cannot evaluate its return annotation {hint.text!r}: {hint.error}")
    output = None if _promises_nothing(hint) else _from_type(hint)
    if required and output is None:
        raise ValueError(f"{describe(fn)}: structured_output needs a return annotation that has a JSON Schema")
    return output


def _promises_nothing(hint: Any) -> bool:
    return hint in (Signature.empty, Any, object, None, type(None)) or _mentions_content(hint)


def _mentions_content(hint: Any) -> bool:
    if isinstance(hint, type) and not get_args(hint):
        return class_wire_name(hint) is not None
    return any(_mentions_content(part) for part in get_args(hint))


def _from_type(hint: Any) -> Output | None:
    if isinstance(hint, type) and hint in _SCALARS:
        return Output(_wrap({"type": _SCALARS[hint]}), _converter(_adapter(hint)), wrapped=True, scalar=hint)
    try:
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return Output(_struct_schema(hint), jsonable)
        adapter = _adapter(hint)
        schema = inline_root(adapter.json_schema(mode="serialization", schema_generator=PlainJsonSchema))
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticInvalidForJsonSchema, TypeError):
        return None
    wrapped = schema.get("type") != "object"
    return Output(_wrap(schema) if wrapped else schema, _converter(adapter), wrapped=wrapped)


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(ser_json_bytes="base64"))
    except pydantic.PydanticUserError:
        # Models and dataclasses bring their own configuration and refuse another.
        return pydantic.TypeAdapter(hint)


def _converter(adapter: pydantic.TypeAdapter[Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        value = adapter.validate_python(value, from_attributes=True)
        return adapter.dump_python(value, mode="json", by_alias=True, warnings=False, fallback=unknown)

    return convert


def _struct_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return inline_root(msgspec.json.schema(struct))


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    """`{"result": …}`; definitions stay at the root, where references look for them."""
    schema = dict(schema)
    definitions = schema.pop("$defs", None)
    wrapped = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return wrapped if definitions is None else {**wrapped, "$defs": definitions}
