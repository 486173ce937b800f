"""Forms: what may be asked, how each version is asked, and whether the answer fills it in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, create_model

from trio_mcp.dispatch.elicitation import Elicited, Form
from trio_mcp.dispatch.questions import InvalidAnswer
from trio_mcp.protocol.errors import NoBackChannel


class Size(Enum):
    """Choices."""

    SMALL = "s"
    LARGE = "l"


class Order(BaseModel):
    """A form with every kind of field."""

    name: str = Field(min_length=2, description="who", title="Name")
    count: int = Field(default=1, ge=1, le=9)
    price: float = 0.5
    gift: bool = True
    size: Size = Size.SMALL
    colour: Literal["red", "blue"] = "red"
    day: date | None = None
    hour: time | None = None
    key: UUID | None = None


TITLED = {"type": "string", "oneOf": [{"const": "s", "title": "Small"}, {"const": "l"}], "default": "s"}
SEVERAL = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}


def with_fields(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def test_a_model_becomes_a_flat_schema_without_references() -> None:
    assert Form(Order).for_version("2025-11-25") == {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 2, "description": "who", "title": "Name"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1, "title": "Count"},
            "price": {"type": "number", "default": 0.5, "title": "Price"},
            "gift": {"type": "boolean", "default": True, "title": "Gift"},
            "size": {"type": "string", "enum": ["s", "l"], "title": "Size", "description": "Choices.", "default": "s"},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red", "title": "Colour"},
            "day": {"type": "string", "format": "date", "title": "Day"},
            "hour": {"type": "string", "title": "Hour"},
            "key": {"type": "string", "title": "Key"},
        },
    }


def test_2025_06_18_has_defaults_for_booleans_only() -> None:
    fields = Form(Order).for_version("2025-06-18")["properties"]
    assert [name for name, field in fields.items() if "default" in field] == ["gift"]


def test_2025_06_18_has_titles_of_choices_in_a_list_of_their_own() -> None:
    form = Form(with_fields(size=TITLED))
    assert form.for_version("2025-11-25")["properties"]["size"] == TITLED
    assert form.for_version("2025-06-18")["properties"]["size"] == {
        "type": "string",
        "enum": ["s", "l"],
        "enumNames": ["Small", "l"],
    }


def test_2025_06_18_cannot_be_asked_for_several_choices() -> None:
    form = Form(with_fields(tags=SEVERAL))
    assert form.for_version("2026-07-28")["properties"]["tags"] == SEVERAL
    with pytest.raises(NoBackChannel, match="tags"):
        form.for_version("2025-06-18")


class Nested(BaseModel):
    """Not flat."""

    order: Order


class Many(BaseModel):
    """Not flat either."""

    orders: list[Order]


@pytest.mark.parametrize(
    "schema",
    [
        Nested,
        Many,
        {},
        {"type": "string"},
        {"type": "object"},
        {"type": "object", "properties": []},
        with_fields(a={"type": "object"}),
        with_fields(a={"type": "array", "items": {"type": "string"}}),
        with_fields(a={}),
        with_fields(a=True),
    ],
)
def test_a_form_that_is_not_flat_is_refused_before_anybody_is_asked(schema: Any) -> None:
    with pytest.raises(TypeError):
        Form(schema)


def test_an_accepted_model_is_an_instance() -> None:
    answer = Form(Order).read({"action": "accept", "content": {"name": "ann", "size": "l"}})
    assert answer == Elicited("accept", Order(name="ann", size=Size.LARGE))
    assert answer.accepted
    assert answer.content is answer.data


def test_an_accepted_schema_is_its_content() -> None:
    form = Form({**with_fields(a={"type": "integer"}), "required": ["a"]})
    assert form.read({"action": "accept", "content": {"a": 1}}).data == {"a": 1}


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_refusal_needs_no_content(action: str) -> None:
    answer = Form(Order).read({"action": action})
    assert (answer.action, answer.data, answer.accepted) == (action, None, False)


@pytest.mark.parametrize("result", [{}, {"action": "maybe"}, {"action": None}, {"action": []}])
def test_an_answer_without_an_action_is_invalid(result: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswer, match="action"):
        Form(with_fields()).read(result)


@pytest.mark.parametrize(
    "content", [None, [], {}, {"name": "x"}, {"name": "ann", "count": 10}, {"name": "ann", "size": "m"}]
)
def test_content_that_does_not_fill_in_the_form_is_invalid_for_a_model(content: Any) -> None:
    with pytest.raises(InvalidAnswer, match="not filled in"):
        Form(Order).read({"action": "accept", "content": content})


@pytest.mark.parametrize("content", [None, [], {}, {"a": "1"}])
def test_content_that_does_not_fill_in_the_form_is_invalid_for_a_schema(content: Any) -> None:
    form = Form({**with_fields(a={"type": "integer"}), "required": ["a"]})
    with pytest.raises(InvalidAnswer, match="not filled in"):
        form.read({"action": "accept", "content": content})


class Colour(Enum):
    """Not text."""

    RED = 1
    BLUE = 2


class Part(BaseModel):
    """One of several."""

    a: int


CHOICES = {"type": "string", "enum": ["s", "l"]}
FIELDS: list[tuple[Any, dict[str, Any]]] = [
    (list[Size], {"type": "array", "items": CHOICES}),
    (list[Literal["s", "l"]], {"type": "array", "items": CHOICES}),
    (set[Size], {"type": "array", "items": CHOICES, "uniqueItems": True}),
    (list[Size] | None, {"type": "array", "items": CHOICES}),
    (list[Size | None], {"type": "array", "items": CHOICES}),
    (Size, {**CHOICES, "description": "Choices."}),
    (Size | None, {**CHOICES, "description": "Choices."}),
    (Literal["s"], {"type": "string", "enum": ["s"]}),
    (Colour, {"type": "integer", "enum": [1, 2], "description": "Not text."}),
    (Decimal, {"type": "number"}),
    (Decimal | None, {"type": "number"}),
    (Annotated[Decimal, Field(ge=0)], {"type": "number", "minimum": 0}),
    (str | None, {"type": "string"}),
]


@pytest.mark.parametrize(
    ("kind", "schema"), FIELDS, ids=lambda value: str(value) if not isinstance(value, dict) else ""
)
def test_a_field_is_one_that_every_client_can_show(kind: Any, schema: dict[str, Any]) -> None:
    field = Form(create_model("F", x=(kind, ...))).schema["properties"]["x"]
    assert {key: value for key, value in field.items() if key != "title"} == schema


NO_FIELDS: list[tuple[Any, str]] = [
    (int | str, "'x' is a union"),
    (int | str | None, "'x' is a union"),
    (Order | Part, "'x' is a union"),
    (Order | None, "'x' is an object"),
    (Order, "'x' is an object"),
    (dict[str, int], "'x' is an object"),
    (list[str], "'x' is a list of something else than choices"),
    (list[Colour], "'x' is a list of something else than choices"),
    (list[Order], "'x' is a list of something else than choices"),
    (list[list[Size]], "'x' is a list of something else than choices"),
    (Literal["a", 1], "'x' is a choice of something else than text"),
    (Any, "'x' is none of them"),
    (Callable[[], int], "is no form"),
]


@pytest.mark.parametrize(("kind", "words"), NO_FIELDS, ids=lambda value: str(value))
def test_what_no_client_can_show_is_refused_with_the_name_of_its_field(kind: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Form(create_model("F", x=(kind, ...)))


@pytest.mark.parametrize("given", [int, list, None, "text", list[str], Order(name="ann")])
def test_what_is_neither_a_model_nor_a_schema_is_no_form(given: Any) -> None:
    with pytest.raises(TypeError, match="a form is a pydantic model or an object schema, not"):
        Form(given)


@pytest.mark.parametrize(
    "field",
    [
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"type": "string", "anyOf": [{"minLength": 1}]},
        {"oneOf": [{"type": "object"}]},
        {"oneOf": []},
        {"enum": [1, 2]},
        {"$ref": "#/$defs/X"},
        {"type": "array", "items": {"enum": [1]}},
        {"type": "array"},
    ],
)
def test_a_schema_by_hand_is_held_to_the_same(field: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="'a' is"):
        Form(with_fields(a=field))


@pytest.mark.parametrize(("pattern", "kept"), [("^[a-z]+$", True), ("(?i)^[a-z]+$", False)])
def test_a_form_has_only_patterns_that_javascript_compiles(pattern: str, kept: bool) -> None:
    model = create_model("Model", code=(Annotated[str, Field(pattern=pattern)], ...))
    assert ("pattern" in Form(model).schema["properties"]["code"]) is kept
