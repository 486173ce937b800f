"""Arguments that do not fit as clients send them, and how they are coerced."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from trio_mcp.features.coercion import coerce
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.signature import Signature
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import InvalidArguments, InvalidParams


class Unit(Enum):
    METRE = "m"


class Line(BaseModel):
    tags: list[str] = []
    note: str = ""
    size: dict[str, int] = {}


@dataclass
class Box:
    lines: list[Line]


# --- null for what has a default


def defaulted(
    text: str = "a",
    none: str = None,  # type: ignore[assignment]  # noqa: RUF013
    number: int = 3,
    ratio: float = 0.5,
    flag: bool = True,
    price: Decimal = Decimal(1),
    unit: Unit = Unit.METRE,
    choice: Literal["x", "y"] = "x",
    tags: list[str] = ["t"],  # noqa: B006
    members: dict[str, int] = {"a": 1},  # noqa: B006
    line: Line = Line(note="n"),  # noqa: B008
    short: Annotated[str, Field(max_length=3)] = "abc",
    either: int | str = "e",
) -> None: ...


@pytest.mark.parametrize("name", Signature(defaulted).names)
def test_null_for_a_parameter_with_a_default_that_takes_no_none_is_the_default(name: str) -> None:
    signature = Signature(defaulted)
    assert signature.bind({name: None}) == signature.bind({})


def test_all_of_them_may_be_null_at_once_beside_text_that_is_json() -> None:
    signature = Signature(defaulted)
    nulls: dict[str, Any] = dict.fromkeys(signature.names)
    assert signature.bind(nulls) == signature.bind({})
    assert signature.bind(nulls | {"tags": '["u"]', "number": "null"})["tags"] == ["u"]


def takes_none(
    a: str | None = "a",
    b: Optional[int] = 1,  # noqa: UP045
    c: Any = "c",
    d: Literal["x", 1] | None = "x",
    e: object = 5,
) -> None: ...


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])
def test_null_stays_null_where_the_type_takes_it(name: str) -> None:
    assert Signature(takes_none).bind({name: None})[name] is None


def test_null_for_what_is_required_is_refused() -> None:
    def fn(a: int, b: int = 1) -> None: ...

    with pytest.raises(InvalidArguments, match=r"- a: Input should be a valid integer; got null"):
        Signature(fn).bind({"a": None, "b": None})


def test_an_alias_names_what_is_null() -> None:
    def fn(user_id: Annotated[int, Field(alias="userId")] = 7) -> None: ...

    assert Signature(fn).bind({"userId": None}) == {"user_id": 7}


def test_the_client_s_own_arguments_stay_as_they_were() -> None:
    sent = {"number": None, "line": {"tags": "[]"}}
    Signature(defaulted).bind(sent)
    assert sent == {"number": None, "line": {"tags": "[]"}}


# --- JSON text


def nested(line: Line | None = None, lines: list[Line] = [], box: Box | None = None) -> None: ...  # noqa: B006


@pytest.mark.parametrize(
    ("sent", "bound"),
    [
        ({"line": '{"note": "n"}'}, {"line": Line(note="n")}),
        ({"line": {"tags": '["a"]'}}, {"line": Line(tags=["a"])}),
        ({"line": {"size": '{"x": 1}'}}, {"line": Line(size={"x": 1})}),
        ({"line": '{"tags": "[\\"a\\"]"}'}, {"line": Line(tags=["a"])}),
        ({"lines": ['{"note": "n"}', {"tags": "[]"}]}, {"lines": [Line(note="n"), Line()]}),
        ({"lines": '["{}"]'}, {"lines": [Line()]}),
        ({"box": {"lines": '[{"note": "[1]"}]'}}, {"box": Box([Line(note="[1]")])}),
        ({"box": {"lines": [{"tags": '["a"]'}]}}, {"box": Box([Line(tags=["a"])])}),
    ],
)
def test_json_text_is_read_where_only_its_value_fits(sent: Any, bound: Any) -> None:
    result = Signature(nested).bind(sent)
    assert {name: result[name] for name in bound} == bound


def texts(a: str = "", b: Any = "", c: str | list[int] = "", d: dict[str, str] = {}, e: list[Any] = []) -> None: ...  # noqa: B006


@pytest.mark.parametrize(
    "sent", [{"a": "[1]"}, {"b": "[1]"}, {"c": "[1]"}, {"d": {"x": "[1]"}}, {"e": ["[1]", "{}"]}, {"a": "null"}]
)
def test_text_stays_text_where_text_fits(sent: Any) -> None:
    [(name, value)] = sent.items()
    assert Signature(texts).bind(sent)[name] == value


def test_text_that_breaks_a_constraint_is_not_unquoted() -> None:
    def fn(a: Annotated[str, Field(max_length=3)]) -> None: ...

    with pytest.raises(InvalidArguments, match="at most 3 characters"):
        Signature(fn).bind({"a": '"abc"'})


# --- schemas written by hand

BY_HAND = {
    "type": "object",
    "properties": {
        "ids": {"type": "array", "items": {"type": "integer"}},
        "where": {"type": "object", "properties": {"more": {"type": "array"}, "name": {"type": "string"}}},
        "unit": {"type": "string"},
        "nothing": {"type": ["string", "null"]},
    },
    "required": ["ids"],
}


@pytest.mark.parametrize(
    ("sent", "bound"),
    [
        ({"ids": "[1, 2]"}, {"ids": [1, 2]}),
        ({"ids": [], "where": {"more": "[1]", "name": "[1]"}}, {"ids": [], "where": {"more": [1], "name": "[1]"}}),
        ({"ids": [], "where": '{"more": "[1]"}'}, {"ids": [], "where": {"more": [1]}}),
        ({"ids": [], "unit": None}, {"ids": []}),
        ({"ids": [], "nothing": None}, {"ids": [], "nothing": None}),
    ],
)
def test_a_schema_by_hand_is_met_in_the_same_way(sent: Any, bound: Any) -> None:
    def fn(**arguments: Any) -> None: ...

    assert Tool.of(fn, name="fn", input_schema=BY_HAND).bind(sent) == bound


@pytest.mark.parametrize(
    ("sent", "words"),
    [({"ids": None}, 'ids: the value is not of type "array"; got null'), ({"ids": "7"}, 'got "7"'), ({}, "required")],
)
def test_what_fits_in_no_way_is_complained_about_as_it_was_sent(sent: Any, words: str) -> None:
    def fn(**arguments: Any) -> None: ...

    with pytest.raises(InvalidArguments, match=words):
        Tool.of(fn, name="fn", input_schema=BY_HAND).bind(sent)


# --- prompts


def prompt(topic: str, count: int = 3, unit: Unit = Unit.METRE, tone: str = "dry", on: bool | None = True) -> None: ...


@pytest.mark.parametrize(
    ("sent", "bound"),
    [
        ({"count": ""}, {"count": 3}),
        ({"unit": "", "on": ""}, {"unit": Unit.METRE, "on": True}),
        ({"tone": ""}, {"tone": ""}),
        ({"count": None, "tone": None, "other": None}, {"count": 3, "tone": "dry"}),
    ],
)
def test_an_empty_prompt_argument_is_left_out_where_no_text_fits(sent: Any, bound: Any) -> None:
    result = Prompt.of(prompt).bind({"topic": ""} | sent)
    assert {name: result[name] for name in bound} == bound
    assert result["topic"] == ""


@pytest.mark.parametrize("sent", [{"topic": None}, {"topic": 1}, {"topic": "x", "count": "many"}])
def test_other_prompt_arguments_that_do_not_fit_are_refused(sent: Any) -> None:
    with pytest.raises(InvalidParams):
        Prompt.of(prompt).bind(sent)


# --- the rule itself


@pytest.mark.parametrize(
    ("arguments", "faults", "expected"),
    [
        ({"a": None}, [("a",)], {}),
        ({"a": None}, [("a", "int")], {}),
        ({"b": None}, [("b",)], None),
        ({"a": ""}, [("a",)], None),
        ({"a": "x"}, [("a",)], None),
        ({"a": {"b": None}}, [("a", "b")], None),
        ({"a": {"b": ["1"]}}, [("a", "b", 0)], {"a": {"b": [1]}}),
        ({"a": ["1", "2"]}, [("a", 0, "int"), ("a", 1, "int"), ("a", 7)], {"a": [1, 2]}),
        ({"a": "[" * 10_000}, [("a",)], None),
        ({"a": "1"}, [()], None),
    ],
    ids=range(10),
)
def test_what_is_changed(arguments: Any, faults: Any, expected: Any) -> None:
    assert coerce(arguments, faults, optional=frozenset("a"), blank=None) == expected
