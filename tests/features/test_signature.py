"""A user's function: its schema, and arguments bound to it."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Optional, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field
from typing_extensions import TypedDict

from trio_mcp.features.injection import HandlerContext
from trio_mcp.features.signature import Signature
from trio_mcp.protocol.errors import InvalidArguments

if TYPE_CHECKING:
    from nowhere import Context, Missing  # type: ignore[import-not-found]

State = TypeVar("State")


class Handle(HandlerContext, Generic[State]):
    """A context as the package's own: a generic subclass."""


class Colour(Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    more: list[Address] = []


class Point(TypedDict):
    x: int


@dataclass
class Size:
    width: int


def bind(fn: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    return Signature(fn).bind(arguments)


def problem(fn: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        Signature(fn).bind(arguments)
    return str(caught.value)


# --- the schema


def test_annotations_and_defaults_make_the_schema_without_made_up_titles() -> None:
    def fn(city: str, days: int = 3) -> None: ...

    assert Signature(fn).schema == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
        "required": ["city"],
    }


def test_a_function_without_parameters_takes_an_empty_object_and_nothing_else() -> None:
    def fn() -> None: ...

    assert Signature(fn).schema == {"type": "object", "properties": {}, "additionalProperties": False}


def test_descriptions_and_bounds_come_from_fields() -> None:
    def fn(a: Annotated[int, Field(description="how many", ge=1)], b: str = Field("x", description="what")) -> None: ...

    assert Signature(fn).schema["properties"] == {
        "a": {"type": "integer", "description": "how many", "minimum": 1},
        "b": {"type": "string", "description": "what", "default": "x"},
    }


def test_an_unannotated_parameter_takes_anything() -> None:
    def fn(a, b=None) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    assert Signature(fn).schema["properties"] == {"a": {}, "b": {"default": None}}
    assert bind(fn, a=[1]) == {"a": [1], "b": None}


def test_properties_keep_the_order_of_the_parameters() -> None:
    def fn(z: int, a: int = 1, *, m: Annotated[int, Field(description="d")], b: int = Field(2)) -> None: ...

    assert Signature(fn).names == ["z", "a", "m", "b"]


@pytest.mark.parametrize("name", ["schema", "json", "copy", "model_config", "validate", "_private", "cls"])
def test_a_parameter_may_have_any_name(name: str) -> None:
    fn = eval(f"lambda {name}: None")
    assert bind(fn, **{name: 1}) == {name: 1}


def test_an_alias_is_the_name_on_the_wire() -> None:
    def fn(user_id: Annotated[int, Field(alias="userId")]) -> None: ...

    assert Signature(fn).names == ["userId"]
    assert bind(fn, userId=1) == {"user_id": 1}


def test_a_default_that_json_cannot_say_is_left_out_of_the_schema() -> None:
    missing = object()

    def fn(a: Any = missing) -> None: ...

    assert Signature(fn).schema["properties"] == {"a": {}}
    assert bind(fn)["a"] is missing


def test_nested_and_recursive_models_have_definitions() -> None:
    def fn(address: Address) -> None: ...

    schema = Signature(fn).schema
    assert schema["properties"] == {"address": {"$ref": "#/$defs/Address"}}
    assert schema["$defs"]["Address"]["properties"]["more"]["items"] == {"$ref": "#/$defs/Address"}


# --- functions of every kind


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def endless(value: int) -> int:
    return endless(value)


class Service:
    def method(self, a: int) -> int:
        return a

    async def async_method(self, a: int) -> int:
        return a

    @classmethod
    def of(cls, a: int) -> int:
        return a

    @staticmethod
    def plain(a: int) -> int:
        return a

    def __call__(self, a: int) -> int:
        return a


class AsyncService:
    async def __call__(self, a: int) -> int:
        return a


async def coroutine(a: int) -> int:
    return a


def function(a: int) -> int:
    return a


@functools.wraps(coroutine)
async def wrapper(*args: Any, **kwargs: Any) -> Any:
    return await coroutine(*args, **kwargs)


@pytest.mark.parametrize(
    ("fn", "is_async"),
    [
        (function, False),
        (coroutine, True),
        (wrapper, True),
        (Service().method, False),
        (Service().async_method, True),
        (Service.of, False),
        (Service.plain, False),
        (Service(), False),
        (AsyncService(), True),
        (functools.partial(coroutine), True),
        (functools.partial(AsyncService()), True),
        (functools.partial(function), False),
    ],
)
def test_functions_methods_callables_and_partials_all_serve(fn: Callable[..., Any], is_async: bool) -> None:
    signature = Signature(fn)
    assert signature.is_async is is_async
    assert signature.schema["properties"] == {"a": {"type": "integer"}}
    assert signature.bind({"a": "1"}) == {"a": 1}


def test_what_a_partial_has_bound_is_neither_shown_nor_taken() -> None:
    def fn(query: str, key: str) -> None: ...

    signature = Signature(functools.partial(fn, key="secret"))
    assert "secret" not in str(signature.schema)
    assert signature.bind({"query": "q", "key": "stolen"}) == {"query": "q"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("lambda a, /: 0", "'a' of <lambda> is positional-only"),
        ("lambda *a: 0", "'a' of <lambda> is [*]args, and MCP arguments are named.*needs functools.wraps"),
        ("lambda **a: 0", "'a' of <lambda> is [*][*]kwargs"),
        ("Service.method", "register the bound method|'a'"),
        ("(lambda self: 0)", "is a method without its object"),
        ("(lambda ctx, a: 0)", "parameter 'ctx' of <lambda> has no annotation.* write `ctx: Context`"),
        ("iter", "iter has no signature"),
        ("len", "'obj' of len is positional-only"),
    ],
)
def test_a_function_that_cannot_be_called_by_name_is_refused(source: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Signature(eval(source))


def test_a_type_that_pydantic_does_not_know_is_refused_with_its_parameter() -> None:
    def fn(a: int, file: socket.socket) -> None: ...

    with pytest.raises(ValueError, match=r"type of parameter 'file', <class 'socket.socket'>. Take text, numbers"):
        Signature(fn)


def test_generators_are_refused() -> None:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:  # noqa: ASYNC900
        yield 1

    for fn in (generator, async_generator):
        with pytest.raises(ValueError, match="is a generator"):
            Signature(fn)


def test_an_annotation_that_cannot_be_evaluated_is_refused_by_name() -> None:
    def fn(a: list[Missing]) -> None: ...

    with pytest.raises(ValueError, match=r"parameter 'a' of .*fn: cannot evaluate its annotation 'list\[Missing\]'"):
        Signature(fn)


def test_an_annotation_without_a_schema_is_refused_with_one_line() -> None:
    def fn(a: Service) -> None: ...

    def callback(a: Callable[[], int]) -> None: ...

    for each in (fn, callback):
        with pytest.raises(ValueError, match=r"^test_an_annotation") as caught:
            Signature(each)
        assert "\n" not in str(caught.value)


def test_open_ended_functions_take_what_is_left() -> None:
    def fn(a: int, **rest: Any) -> None: ...

    signature = Signature(fn, open_ended=True)
    assert signature.names == ["a"]
    assert signature.bind({"a": "1", "b": 2}) == {"a": 1, "b": 2}


def test_a_function_of_nothing_but_keyword_arguments_takes_all_of_them() -> None:
    def fn(**rest: Any) -> None: ...

    assert Signature(fn, open_ended=True).bind({"b": 2}) == {"b": 2}


# --- the context


def _plain(a: int, ctx: HandlerContext) -> None: ...
def _subclass(ctx: Handle[int], a: int) -> None: ...
def _optional(a: int, ctx: Handle[Any] | None = None) -> None: ...
def _old_optional(a: int, ctx: Optional[Handle[Any]] = None) -> None: ...  # noqa: UP045
def _annotated(a: int, ctx: Annotated[Handle[Any], "x"]) -> None: ...
def _type_checking(a: int, ctx: Context) -> None: ...
def _type_checking_generic(a: int, ctx: Context[int]) -> None: ...
def _type_checking_optional(a: int, ctx: Context | None = None) -> None: ...
def _type_checking_typing(a: int, ctx: Optional[Context] = None) -> None: ...  # noqa: UP045


@pytest.mark.parametrize(
    "fn",
    [
        _plain,
        _subclass,
        _optional,
        _old_optional,
        _annotated,
        _type_checking,
        _type_checking_generic,
        _type_checking_optional,
        _type_checking_typing,
    ],
)
def test_the_context_is_found_however_it_is_annotated_and_never_in_the_schema(fn: Callable[..., Any]) -> None:
    signature = Signature(fn)
    assert signature.context_parameter == "ctx"
    assert signature.names == ["a"]
    assert signature.bind({"a": 1, "ctx": "forged"}) == {"a": 1}


def test_a_function_without_context_has_none() -> None:
    assert Signature(function).context_parameter is None


def test_a_function_of_nothing_but_the_context_takes_no_arguments() -> None:
    def fn(ctx: HandlerContext) -> None: ...

    assert Signature(fn).schema["additionalProperties"] is False
    assert bind(fn) == {}


def test_two_contexts_are_refused() -> None:
    def fn(one: HandlerContext, two: Handle[Any]) -> None: ...

    with pytest.raises(ValueError, match="takes the context twice: one and two"):
        Signature(fn)


# --- binding


def test_arguments_are_converted_and_defaults_filled_in() -> None:
    def fn(at: datetime, colour: Colour, where: Address, size: Size, point: Point, n: int = 3) -> None: ...

    assert bind(
        fn,
        at="2026-01-02T03:04:05",
        colour="red",
        where={"street": "x"},
        size={"width": 1},
        point={"x": 1},
    ) == {
        "at": datetime(2026, 1, 2, 3, 4, 5),
        "colour": Colour.RED,
        "where": Address(street="x"),
        "size": Size(1),
        "point": {"x": 1},
        "n": 3,
    }


def test_arguments_nobody_asked_for_are_ignored() -> None:
    assert bind(function, a=1, b=2) == {"a": 1}


def test_each_call_has_its_own_default() -> None:
    def fn(a: list[int] = []) -> None: ...  # noqa: B006

    signature = Signature(fn)
    signature.bind({})["a"].append(1)
    assert signature.bind({}) == {"a": []}


def test_json_in_a_string_is_taken_where_a_string_does_not_fit() -> None:
    def fn(a: list[int], b: Address, c: int | None, d: str) -> None: ...

    assert bind(fn, a="[1, 2]", b='{"street": "x"}', c="null", d="[1]") == {
        "a": [1, 2],
        "b": Address(street="x"),
        "c": None,
        "d": "[1]",
    }


def test_a_string_that_is_other_json_is_complained_about_as_it_was_sent() -> None:
    def fn(a: list[int]) -> None: ...

    assert '- a: Input should be a valid list; got "{\\"x\\":1}"' in problem(fn, a='{"x":1}')


def test_a_missing_argument_is_named() -> None:
    assert problem(function) == "Invalid arguments:\n- a: missing, but required"


def test_a_complaint_names_the_place_what_was_expected_and_what_came() -> None:
    def fn(where: Address, level: Literal["low", "high"]) -> None: ...

    text = problem(fn, where={"street": 1, "more": [{"street": None}]}, level="mid")
    assert text.splitlines() == [
        "Invalid arguments:",
        "- where.street: Input should be a valid string; got 1",
        "- where.more[0].street: Input should be a valid string; got null",
        "- level: Input should be 'low' or 'high'; got \"mid\"",
    ]


def test_a_validator_s_own_words_are_told() -> None:
    def fn(a: Annotated[int, AfterValidator(even)]) -> None: ...

    assert "- a: Value error, must be even; got 3" in problem(fn, a=3)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 61, "a string of 61 characters"),
        (10**5000, "a very large integer"),
        ([1, 2], "an array of 2"),
        ({"a": 1}, "an object with 1 members"),
        (True, "true"),
        (1.5, "1.5"),
        (b"x", "a value of type bytes"),
    ],
    ids=["long", "huge", "array", "object", "bool", "float", "other"],
)
def test_what_came_is_shown_in_brief(value: Any, shown: str) -> None:
    def fn(a: Literal["y"]) -> None: ...

    assert problem(fn, a=value).endswith(f"got {shown}")


def test_a_complaint_about_many_values_is_short() -> None:
    def fn(a: list[int]) -> None: ...

    text = problem(fn, a=["x"] * 100)
    assert text.endswith("- and 80 more")
    assert len(text.splitlines()) == 22


def test_a_complaint_about_a_million_values_counts_them_only() -> None:
    def fn(a: list[int]) -> None: ...

    assert "1000 values do not fit" in problem(fn, a=["x"] * 1000)


def test_a_complaint_never_quotes_a_client_at_length() -> None:
    def fn(a: dict[int, int]) -> None: ...

    assert len(problem(fn, a={"x" * 10_000: 1})) < 1_000


def test_deep_nesting_is_a_complaint() -> None:
    def fn(where: Address) -> None: ...

    deep: dict[str, Any] = {"street": "x"}
    for _ in range(5_000):
        deep = {"street": "x", "more": [deep]}
    assert problem(fn, where=deep).startswith("Invalid arguments:")


def test_a_validator_that_never_ends_is_a_complaint() -> None:
    def fn(a: Annotated[int, AfterValidator(endless)]) -> None: ...

    assert problem(fn, a=1) == "Invalid arguments:\n- nested too deeply"


def everything(
    a: int,
    b: list[float],
    c: Address,
    d: Colour | None,
    e: datetime,
    f: dict[str, int],
    g: Literal["x", 1],
    h: Size | Point,
    i: Annotated[str, Field(pattern="^a+$", max_length=3)],
    j: bytes,
) -> None: ...


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 2**64, -(2**64), 10**400, math.nan, math.inf, "\ud800", "\0", "[[[[", "1e999"])
    | st.floats()
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
EVERYTHING = Signature(everything)


@given(st.dictionaries(st.sampled_from([*"abcdefghij", "street", "\ud800"]), VALUES))
def test_hostile_arguments_bind_or_are_complained_about_in_utf_8(arguments: dict[str, Any]) -> None:
    text = ""
    try:
        EVERYTHING.bind(arguments)
    except InvalidArguments as error:
        text = str(error)
    assert len(msgspec.json.encode(text)) < 15_000


@given(a=st.integers(), b=st.floats(allow_nan=False), c=st.text(), d=st.booleans())
def test_scalars_of_the_right_type_arrive_unchanged(a: int, b: float, c: str, d: bool) -> None:
    def fn(a: int, b: float, c: str, d: bool) -> None: ...

    assert bind(fn, a=a, b=b, c=c, d=d) == {"a": a, "b": b, "c": c, "d": d}
