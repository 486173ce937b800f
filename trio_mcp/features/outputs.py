"""How a tool's return value becomes `structuredContent`, and the output schema that describes it.

At registration, from the annotation (`output_of`):

    annotation ─┬─ None, Any, content blocks ─▶ no output schema
                ├─ int, float, str, bool ─────▶ a schema of one word
                └─ any other ─▶ pydantic, with `output_schemas.OutputJsonSchema` (a msgspec.Struct: msgspec)
                                  ─▶ `schemas.inline_root`          the root is no `$ref`
                                  ─▶ `output_schemas.as_serialized` without the keywords that values may break
                                  ─▶ `client_schemas.readable`      without what clients cannot compile or follow
    then: `_wrap`, unless it describes an object ─▶ `outputSchema`

A schema given by hand (`output_with`) only loses patterns that JavaScript cannot compile (`client_schemas`).

At each call (`Output.structured`): value ─▶ pydantic checks and serializes it ─▶ wrapped ─▶ `schemas.Validator` ─▶ `structuredContent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import Signature
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
import pydantic
from pydantic_core import SchemaError

from trio_mcp.features.client_schemas import readable, without_foreign_patterns
from trio_mcp.features.functions import Unresolved, describe, return_annotation
from trio_mcp.features.json_values import beyond_double, json_value, serializer, unknown
from trio_mcp.features.output_schemas import OutputJsonSchema, as_serialized
from trio_mcp.features.schemas import PYTHON_PATTERNS, Validator, inline_root
from trio_mcp.features.validation_text import validation_text
from trio_mcp.protocol.errors import INTERNAL_ERROR, LocalProtocolError
from trio_mcp.protocol.wire import class_wire_name

__all__ = ["Output", "output_of", "output_with"]

_BREAKS = "The tool's result does not conform to its output schema, which is its return annotation or output_schema="

_SCALARS: dict[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}


class Output:
    """An output schema and the conversion to it. `wrapped` values are sent as `{"result": value}`: the root must be an object."""

    __slots__ = ("_convert", "_validator", "scalar", "schema", "wrapped")

    def __init__(
        self,
        schema: dict[str, Any],
        convert: Callable[[Any], Any],
        *,
        wrapped: bool = False,
        scalar: type | None = None,
        validator: Validator | None = None,
    ) -> None:
        self.schema: dict[str, Any] = schema
        self.wrapped: bool = wrapped
        self.scalar: type | None = scalar
        self._convert = convert
        self._validator = validator

    def structured(self, value: Any) -> Any:
        """The `structuredContent` of a return value; raises LocalProtocolError when it does not fit the schema."""
        try:
            value = self._convert(value)
        except pydantic.ValidationError as error:
            raise self._broken(validation_text(error)) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise self._broken(f"- {error}") from error
        value = {"result": value} if self.wrapped else value
        if self.validator.problem(value) is None:
            return value
        # Values that pydantic lets pass and JSON cannot represent: NaN becomes null, lone surrogates question marks.
        return self.checked(json_value(value))

    def checked(self, structured: Any) -> Any:
        """Return `structured` unchanged; raises LocalProtocolError when it does not conform to the schema."""
        problem = self.validator.problem(structured)
        if problem:
            raise self._broken(problem)
        return structured

    def check_numbers(self, structured: Any) -> None:
        """Raise LocalProtocolError for an integer that JavaScript reads as Infinity."""
        where = beyond_double(structured)
        if where is not None:
            raise self._broken(
                f"- {where} is an integer beyond 1.8e308, which many clients read as infinity: return text"
            )

    @property
    def validator(self) -> Validator:
        """Compiled at first use: tools that return scalars never need it."""
        if self._validator is None:
            self._validator = Validator(self.schema, formats=True)
        return self._validator

    @staticmethod
    def _broken(why: str) -> LocalProtocolError:
        return LocalProtocolError(INTERNAL_ERROR, f"{_BREAKS}: {why.removeprefix('- ')}")


def output_with(schema: dict[str, Any], where: str) -> Output:
    """From a schema written by hand, which is sent unchanged but for patterns that JavaScript cannot compile.

    Raises ValueError for one that is no JSON Schema; `where` names the tool.
    """
    # The whole schema is checked here, also the patterns that clients are not sent.
    return Output(
        without_foreign_patterns(schema, where),
        json_value,
        validator=Validator(schema, formats=True, what=f"the output_schema of {where}"),
    )


def output_of(fn: Callable[..., Any], *, required: bool) -> Output | None:
    """From a function's return annotation; None without one, for None, content types, and types that may hold blocks.

    With `required`, raises ValueError instead of giving None.
    """
    hint = _structured_type(return_annotation(fn))
    if isinstance(hint, Unresolved):
        raise ValueError(
            f"{describe(fn)}: cannot evaluate its return annotation {hint.text!r}: {hint.error}. Import it at run time too"
        )
    nothing = _has_no_schema(hint) or (not required and _may_hold_blocks(hint))
    output = None if nothing else _from_type(hint, describe(fn))
    if required and output is None:
        raise ValueError(f"{describe(fn)}: structured_output needs a return annotation that has a JSON Schema")
    return output


def _has_no_schema(hint: Any) -> bool:
    return hint in (Signature.empty, Any, object, None, type(None)) or _mentions_content(hint)


def _mentions_content(hint: Any) -> bool:
    if isinstance(hint, type) and not get_args(hint):
        return class_wire_name(hint) is not None
    return any(_mentions_content(part) for part in get_args(hint))


def _may_hold_blocks(hint: Any) -> bool:
    """Whether it is `Any` or a sequence of it: such values may be blocks, and are sent as content."""
    hint = getattr(hint, "__value__", hint)  # `type Blocks = list[Any]`
    origin, parts = get_origin(hint), get_args(hint)
    if hint in (Any, object) or isinstance(hint, TypeVar):
        return True
    if origin is Annotated:
        return _may_hold_blocks(parts[0])
    if origin in (Union, UnionType):
        return any(map(_may_hold_blocks, parts))
    kind = origin or hint
    if not isinstance(kind, type) or not _is_plain_sequence(kind):
        return False
    return not parts or any(_may_hold_blocks(part) for part in parts if part is not ...)


def _is_plain_sequence(kind: type) -> bool:
    """Whether it is a sequence type of the standard library; a named tuple, say, has a schema of its own."""
    home = kind.__module__ in ("builtins", "collections", "collections.abc")
    return home and issubclass(kind, Iterable) and not issubclass(kind, Mapping | str | bytes | bytearray | range)


def _from_type(hint: Any, where: str) -> Output | None:
    if isinstance(hint, type) and hint in _SCALARS:
        return Output(
            _wrap({"type": _SCALARS[hint]}), _converter(pydantic.TypeAdapter(hint)), wrapped=True, scalar=hint
        )
    try:
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return Output(readable(as_serialized(_struct_schema(hint)), where), json_value)
        adapter = _adapter(hint)
        schema = inline_root(adapter.json_schema(mode="serialization", schema_generator=OutputJsonSchema))
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticInvalidForJsonSchema, TypeError):
        return None
    schema = readable(as_serialized(schema), where)
    wrapped = schema.get("type") != "object"
    return Output(_wrap(schema) if wrapped else schema, _converter(adapter), wrapped=wrapped)


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(hint)
    except SchemaError:
        return pydantic.TypeAdapter(hint, config=PYTHON_PATTERNS)


def _converter(adapter: pydantic.TypeAdapter[Any]) -> Callable[[Any], Any]:
    written = serializer(adapter.core_schema)

    def convert(value: Any) -> Any:
        value = adapter.validate_python(value, from_attributes=True)
        return written.to_python(value, mode="json", by_alias=True, warnings=False, fallback=unknown)

    return convert


def _struct_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return inline_root(msgspec.json.schema(struct))


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    """`{"result": …}`; definitions stay at the root, where references look for them.

    FastMCP's client unwraps results whose schema has the mark.
    """
    schema = dict(schema)
    definitions = schema.pop("$defs", None)
    wrapped = {
        "type": "object",
        "properties": {"result": schema},
        "required": ["result"],
        "x-fastmcp-wrap-result": True,
    }
    return wrapped if definitions is None else {**wrapped, "$defs": definitions}


def _structured_type(hint: Any) -> Any:
    """The type of `structuredContent`: `Model` of `Annotated[CallToolResult, Model]`, as in the official SDK; else `hint`."""
    if get_origin(hint) is not Annotated:
        return hint
    result, *said = get_args(hint)
    if not (isinstance(result, type) and class_wire_name(result) == "CallToolResult"):
        return hint
    return next((each for each in said if isinstance(each, type) or get_origin(each) is not None), result)
