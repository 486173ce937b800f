"""The parameters of a user's function: their JSON Schema, and arguments validated and converted by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import make_dataclass
from inspect import Parameter
from typing import Any, get_args

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from trio_mcp.features.client_schemas import readable
from trio_mcp.features.coercion import ROUNDS, coerce
from trio_mcp.features.functions import Unresolved, describe, is_async, parameters
from trio_mcp.features.injection import FromToken, from_token, is_context
from trio_mcp.features.schemas import PYTHON_PATTERNS, PlainJsonSchema
from trio_mcp.features.validation_text import too_many, validation_text
from trio_mcp.protocol.errors import ClaimMissing, InvalidArguments

__all__ = ["Signature"]

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
"""What the specification recommends for a tool without arguments."""


class Signature:
    """The parameters of a function, compiled once at registration.

    `schema` is a JSON Schema 2020-12 of type object. Raises ValueError for a function that cannot be called by name:
    positional-only parameters, `*args`, and `**kwargs` unless `open_ended`.
    """

    __slots__ = ("_extra", "_validate", "context_parameter", "fn", "is_async", "schema", "token_values")

    def __init__(self, fn: Callable[..., Any], *, open_ended: bool = False) -> None:
        self.fn: Callable[..., Any] = fn
        self.is_async: bool = is_async(fn)
        given = list(parameters(fn))
        self._extra = open_ended and any(it.kind is Parameter.VAR_KEYWORD for it, _ in given)
        if self._extra:
            given = [(it, hint) for it, hint in given if it.kind is not Parameter.VAR_KEYWORD]
        self.context_parameter: str | None = _context_parameter(fn, given)
        filled = from_token(given)
        self.token_values: TokenValues | None = TokenValues(fn, given, filled) if filled else None
        """What the access token fills; None where it fills nothing."""
        own = {self.context_parameter, *filled}
        fields = [_field(fn, it, hint) for it, hint in given if it.name not in own]
        self.schema: dict[str, Any]
        self._validate, self.schema = _compile(fn, fields)

    @property
    def names(self) -> list[str]:
        """The arguments as a client names them, in order."""
        return list(self.schema["properties"])

    @property
    def required(self) -> frozenset[str]:
        """The arguments without a default."""
        return frozenset(self.schema.get("required", ()))

    @property
    def hints(self) -> dict[str, Any]:
        """The annotations of the arguments, by the name a client gives them."""
        own = {self.context_parameter, *(self.token_values or ())}
        given = (hint for it, hint in parameters(self.fn) if it.name not in own)
        return dict(zip(self.names, given, strict=True))

    def bind(self, arguments: dict[str, Any], *, blank: str | None = None, parse_json: bool = True) -> dict[str, Any]:
        """Keyword arguments for `fn`, converted, with defaults, without context and token; raises InvalidArguments.

        Arguments that do not fit are coerced (see `coercion`): `blank`, like null, counts as left out, and JSON text is parsed
        unless `parse_json` is false.
        """
        try:
            bound: dict[str, Any] = self._validate(arguments).__dict__ if self._validate else {}
        except (pydantic.ValidationError, RecursionError) as error:
            bound = self._coerced(arguments, error, blank, parse_json)
        if self._extra:
            known = {*self.schema["properties"], *(self.token_values or ())}
            bound |= {name: value for name, value in arguments.items() if name not in known}
        return bound

    def _coerced(
        self,
        arguments: dict[str, Any],
        error: pydantic.ValidationError | RecursionError,
        blank: str | None,
        parse_json: bool,
    ) -> dict[str, Any]:
        fault, optional = error, frozenset(self.names) - self.required
        for _ in range(ROUNDS):
            if isinstance(fault, RecursionError) or too_many(fault) or self._validate is None:
                break
            paths = (it["loc"] for it in fault.errors(include_url=False, include_context=False))
            coerced = coerce(arguments, paths, optional=optional, blank=blank, parse_json=parse_json)
            if coerced is None:
                break
            arguments = coerced
            try:
                result: dict[str, Any] = self._validate(arguments).__dict__
            except (pydantic.ValidationError, RecursionError) as again:
                fault = again
            else:
                return result
        # The error describes what the client sent, not what was made of it.
        raise InvalidArguments(f"Invalid arguments:\n{validation_text(error)}") from None


class TokenValues:
    """The parameters of a function that the access token fills: the token itself, and values that marks find in it."""

    __slots__ = ("_marks", "_required", "_tokens", "_validate")

    def __init__(
        self,
        fn: Callable[..., Any],
        given: Iterable[tuple[Parameter, Any]],
        filled: Mapping[str, tuple[FromToken | None, Any]],
    ) -> None:
        own = [it for it, _ in given if it.name in filled]
        self._marks = {name: mark for name, (mark, _) in filled.items() if mark is not None}
        self._required = {it.name for it in own if it.default is Parameter.empty}
        self._tokens: dict[str, Any] = {}
        """The parameters that get the token itself, with what they get where there is none."""
        for it in own:
            if it.name not in self._marks:
                self._tokens[it.name] = None if it.default is Parameter.empty else it.default
                if type(None) in get_args(filled[it.name][1]):
                    self._required.discard(it.name)
        fields = [_field(fn, it, filled[it.name][1]) for it in own if it.name in self._marks]
        self._validate, _ = _compile(fn, fields)

    def __iter__(self) -> Iterator[str]:
        """The names of the parameters."""
        return iter([*self._marks, *self._tokens])

    def of(self, token: Any) -> dict[str, Any]:
        """Keyword arguments from the token of a request, None where it has none.

        Raises ClaimMissing for a value that is not there or has another type; it says which, and never the value.
        """
        if token is None and not self._required.isdisjoint(self._tokens):
            raise ClaimMissing("The request has no access token")
        try:
            found = self._found(token)
            bound: dict[str, Any] = dict(self._validate(found).__dict__) if self._validate else {}
        except (pydantic.ValidationError, RecursionError):
            raise ClaimMissing(f"A value of the token has another type than {', '.join(self._marks)}") from None
        return bound | {name: default if token is None else token for name, default in self._tokens.items()}

    def _found(self, token: Any) -> dict[str, Any]:
        """The values of the marks; those that are not there are left out, for the defaults of their parameters."""
        found = {}
        for name, mark in self._marks.items():
            try:
                found[name] = mark.value(token)
            except ClaimMissing:
                if name in self._required:
                    raise
        return found


def _context_parameter(fn: Callable[..., Any], given: Iterable[tuple[Parameter, Any]]) -> str | None:
    names = [parameter.name for parameter, hint in given if is_context(hint)]
    if len(names) > 1:
        raise ValueError(f"{describe(fn)} takes the context twice: {' and '.join(names)}. Keep one")
    return names[0] if names else None


_REFUSED = {
    Parameter.POSITIONAL_ONLY: "is positional-only, and MCP arguments are named",
    Parameter.VAR_POSITIONAL: "is *args, and MCP arguments are named. A decorator that is in between needs functools.wraps",
    Parameter.VAR_KEYWORD: "is **kwargs, which tells a client nothing; name the arguments",
}


def _field(fn: Callable[..., Any], parameter: Parameter, hint: Any) -> tuple[str, Any, Any]:
    """A dataclass field: name, type, default."""
    where = f"parameter {parameter.name!r} of {describe(fn)}"
    if parameter.kind in _REFUSED:
        raise ValueError(f"{where} {_REFUSED[parameter.kind]}")
    if hint is Parameter.empty and (parameter.name == "self" or (parameter.name == "cls" and _in_class(fn))):
        raise ValueError(f"{describe(fn)} is a method without its object: register the bound method")
    if isinstance(hint, Unresolved):
        raise ValueError(
            f"{where}: cannot evaluate its annotation {hint.text!r}: {hint.error}. Import it at run time too"
        )
    if hint is Parameter.empty:
        if parameter.name == "ctx":
            raise ValueError(
                f"{where} has no annotation, and would be an argument that clients give: write `ctx: Context`, from trio_mcp"
            )
        hint = Any
    default = parameter.default
    if default is Parameter.empty:
        return parameter.name, hint, pydantic.Field()
    return parameter.name, hint, default if isinstance(default, FieldInfo) else pydantic.Field(default=default)


def _in_class(fn: Callable[..., Any]) -> bool:
    """Whether it was defined in a class body: elsewhere `cls` is an ordinary parameter."""
    place = getattr(fn, "__qualname__", "").rpartition(".")[0]
    return bool(place) and not place.endswith("<locals>")


def _compile(
    fn: Callable[..., Any], fields: list[tuple[str, Any, Any]]
) -> tuple[Callable[[Any], Any] | None, dict[str, Any]]:
    """The validator for `fields`, and their schema.

    They are those of a dataclass: unlike a model's they may have any name, and its `__dict__` is the keyword arguments.
    """
    if not fields:
        return None, _NO_ARGUMENTS
    try:
        adapter = _adapter(make_dataclass("Arguments", fields, kw_only=True))
        schema = adapter.json_schema(schema_generator=PlainJsonSchema)
    except pydantic.PydanticSchemaGenerationError as error:
        raise ValueError(f"{describe(fn)}: pydantic does not know the type of {_unfit(fields)}. {_TYPES}") from error
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation) as error:
        raise ValueError(f"{describe(fn)}: {str(error).splitlines()[0]}") from error
    except SchemaError as error:
        raise ValueError(f"{describe(fn)}: {str(error).splitlines()[-1].strip()}") from error
    del schema["title"]
    return adapter.validator.validate_python, readable(schema, describe(fn))


_TYPES = (
    "Take text, numbers, lists, dicts, dataclasses or pydantic models, and make what you need of them in the function"
)


def _unfit(fields: Iterable[tuple[str, Any, Any]]) -> str:
    """The first parameter that pydantic has no schema for, with its annotation."""
    for name, hint, _ in fields:
        try:
            pydantic.TypeAdapter(hint)
        except pydantic.PydanticSchemaGenerationError:
            return f"parameter {name!r}, {hint!r:.80}"
        except (SchemaError, pydantic.PydanticUserError):
            continue
    return "a parameter"


def _adapter(arguments: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(arguments)
    except SchemaError:
        # For example a pattern with a look-around, which pydantic's own engine lacks and Python's has.
        arguments.__pydantic_config__ = PYTHON_PATTERNS
        return pydantic.TypeAdapter(arguments)
