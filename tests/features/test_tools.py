"""Tools as clients see them."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import mcp_types
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tests.features.oracle import accept
from trio_mcp.features.tools import Tool, error_result
from trio_mcp.protocol.errors import InvalidArguments, LocalProtocolError
from trio_mcp.protocol.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    Icon,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28

OLD, NEW = V2025_03_26, V2026_07_28
STRUCTURED = (V2025_06_18, V2025_11_25, V2026_07_28)

FIXTURE: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""The schema of the conformance suite's `json_schema_2020_12_tool`."""


class Forecast(BaseModel):
    """The weather to come."""

    city: str
    degrees: list[float] = []


def add(a: int, b: int = 1) -> int:
    """Add two integers.

    The second is 1 if not given.
    """
    return a + b


def forecast(city: Annotated[str, Field(description="Where")]) -> Forecast:
    """Daily forecast."""
    return Forecast(city=city)


def nothing() -> None:
    """Do nothing."""


def anything(**arguments: Any) -> Any:
    """Do anything."""
    return arguments


class Greeter:
    """Greets."""

    def __call__(self, name: str) -> str:
        return name

    def greet(self, name: str) -> str:
        """Greet someone."""
        return name


def by_hand(schema: dict[str, Any], **options: Any) -> Tool:
    return Tool.of(anything, input_schema=schema, **options)


def text(result: dict[str, Any]) -> str:
    (block,) = result["content"]
    assert block["type"] == "text"
    return str(block["text"])


# --- registration


def test_name_description_and_schemas_come_from_the_function() -> None:
    assert Tool.of(add).definition(NEW) == {
        "name": "add",
        "description": "Add two integers.\n\nThe second is 1 if not given.",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
            "required": ["a"],
        },
        "outputSchema": {
            "type": "object",
            "properties": {"result": {"type": "integer"}},
            "required": ["result"],
            "x-fastmcp-wrap-result": True,
        },
    }


def test_what_is_given_by_hand_wins() -> None:
    tool = Tool.of(
        add,
        name="plus",
        title="Plus",
        description="Sum",
        annotations=ToolAnnotations(read_only_hint=True),
        icons=[Icon("https://example.org/i.png")],
        meta={"a": 1},
        structured_output=False,
    )
    definition = tool.definition(NEW)
    del definition["inputSchema"]
    assert definition == {
        "name": "plus",
        "title": "Plus",
        "description": "Sum",
        "annotations": {"readOnlyHint": True},
        "icons": [{"src": "https://example.org/i.png"}],
        "_meta": {"a": 1},
    }


@pytest.mark.parametrize(
    "annotations", [{"readOnlyHint": True}, ToolAnnotations(None, True), mcp_types.ToolAnnotations(read_only_hint=True)]
)
def test_annotations_are_ours_the_official_ones_or_a_mapping(annotations: Any) -> None:
    assert Tool.of(add, annotations=annotations).annotations == {"readOnlyHint": True}


def test_annotations_that_are_no_object_are_refused() -> None:
    with pytest.raises(ValueError, match="annotations of add"):
        Tool.of(add, annotations="read-only")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fn", "name", "description"),
    [
        (functools.partial(add, b=2), "add", "Add two integers.\n\nThe second is 1 if not given."),
        (Greeter(), "Greeter", "Greets."),
        (Greeter().greet, "greet", "Greet someone."),
    ],
)
def test_partials_callables_and_methods_have_names_and_descriptions(
    fn: Callable[..., Any], name: str, description: str
) -> None:
    tool = Tool.of(fn)
    assert (tool.name, tool.description) == (name, description)


def test_without_docstring_there_is_no_description() -> None:
    def fn() -> None: ...

    assert "description" not in Tool.of(fn).definition(NEW)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a" * 129, "a\n", "<lambda>"])
def test_a_name_clients_may_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name="):
        Tool.of(add, name=name)


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "a" * 128])
def test_a_name_of_the_allowed_characters_is_taken(name: str) -> None:
    assert Tool.of(add, name=name).name == name


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ValueError, match="give another with name="):
        Tool.of(lambda: None)


def test_headers_are_found_at_registration() -> None:
    def fn(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> None: ...

    (header,) = Tool.of(fn).param_headers
    assert header.header == "Mcp-Param-Region"


def test_a_header_no_client_would_send_is_refused_at_registration() -> None:
    def fn(share: Annotated[float, Field(json_schema_extra={"x-mcp-header": "Share"})]) -> None: ...

    with pytest.raises(ValueError, match="share"):
        Tool.of(fn)


# --- definitions


FULL = Tool.of(
    forecast,
    title="T",
    annotations=ToolAnnotations("T", True),
    icons=[Icon("https://example.org/i.png")],
    meta={"a": 1},
)


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize("tool", [FULL, Tool.of(nothing), by_hand(FIXTURE, output_schema=FIXTURE), Tool.of(add)])
def test_the_official_types_take_every_definition(tool: Tool, version: str) -> None:
    accept("tools/list", version, {"tools": [tool.definition(version)]})


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (V2025_03_26, {"title", "icons", "_meta", "outputSchema"}),
        (V2025_06_18, {"icons"}),
        (V2025_11_25, set()),
        (V2026_07_28, set()),
    ],
)
def test_a_definition_has_the_fields_its_reader_knows(version: str, missing: set[str]) -> None:
    full = {"name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons", "_meta"}
    assert FULL.definition(version).keys() == full - missing


@pytest.mark.parametrize("version", [V2025_11_25, V2026_07_28])
def test_a_schema_by_hand_is_listed_verbatim(version: str) -> None:
    assert json.dumps(by_hand(FIXTURE).definition(version)["inputSchema"]) == json.dumps(FIXTURE)


def test_an_output_schema_of_arrays_is_for_2026_07_28_only() -> None:
    tool = Tool.of(anything, input_schema={"type": "object"}, output_schema={"type": "array"})
    assert "outputSchema" not in tool.definition(V2025_11_25)
    assert "structuredContent" not in tool.result([1], V2025_11_25)
    assert tool.definition(NEW)["outputSchema"] == {"type": "array"}
    assert tool.result([1], NEW)["structuredContent"] == [1]


# --- arguments


def test_a_schema_by_hand_is_checked_and_hands_everything_to_open_ended_functions() -> None:
    tool = by_hand(FIXTURE)
    assert tool.bind({"name": "n", "email": "e"}) == {"name": "n", "email": "e"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, '"email" is a required property'),
        ({"email": 1}, 'email: the value is not of type "string"; got 1'),
        ({"email": "e", "x": 1}, "'x' was unexpected"),
        ({"email": "e", "address": {"street": []}}, "address.street: .* got an array of 0"),
        ({"email": "e", "contactMethod": "phone"}, '"phone" is a required property'),
    ],
)
def test_arguments_that_do_not_fit_a_schema_by_hand_are_complained_about(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        by_hand(FIXTURE).bind(arguments)


def test_after_a_schema_by_hand_the_annotations_still_convert() -> None:
    def fn(where: Forecast) -> None: ...

    tool = Tool.of(fn, input_schema={"type": "object", "properties": {"where": {"type": "object"}}})
    assert tool.bind({"where": {"city": "x"}}) == {"where": Forecast(city="x")}
    with pytest.raises(InvalidArguments, match=r"where.city: missing"):
        tool.bind({"where": {}})


@pytest.mark.parametrize("size", [999, 100_000])
def test_a_complaint_about_a_large_value_is_quick_and_short(size: int) -> None:
    tool = by_hand({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}})
    start = time.process_time()
    with pytest.raises(InvalidArguments, match=r"a\[0\]: the value is not of type") as caught:
        tool.bind({"a": ["x"] * size})
    assert time.process_time() - start < 0.5
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "$schema": "https://example.org/dialect"},
        {"type": "object", "properties": {"a": {"type": "objekt"}}},
        {"type": "object", "properties": 1},
    ],
)
def test_a_schema_that_is_none_or_refers_elsewhere_is_refused_at_registration(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^the input_schema of \w+ is not a usable JSON Schema:\n- .+"):
        by_hand(schema)
    with pytest.raises(ValueError, match=r"^the output_schema of anything is not a usable JSON Schema:\n- .+"):
        Tool.of(anything, input_schema={"type": "object"}, output_schema=schema)


def test_a_schema_that_is_none_is_refused_with_the_place_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"\n- properties\.a\.type: "):
        by_hand({"type": "object", "properties": {"a": {"type": "objekt"}}})


@pytest.mark.parametrize("schema", [{}, {"type": "array"}, {"type": ["object"]}])
def test_an_input_schema_of_anything_but_objects_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='needs "type": "object"'):
        by_hand(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
BY_HAND = by_hand(FIXTURE)


@given(st.dictionaries(st.sampled_from(["name", "address", "contactMethod", "phone", "email", "\ud800"]), JSON))
def test_hostile_arguments_for_a_schema_by_hand_fit_or_are_complained_about(arguments: dict[str, Any]) -> None:
    message = ""
    try:
        BY_HAND.bind(arguments)
    except InvalidArguments as error:
        message = str(error)
    msgspec.json.encode(message)


# --- results


@pytest.mark.parametrize("version", STRUCTURED)
@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (int, 3, "3"),
        (int, -(10**30), str(-(10**30))),
        (float, 0.5, "0.5"),
        (float, 3, "3.0"),
        (str, "hé", "hé"),
        (str, "", ""),
        (bool, True, "true"),
        (bool, False, "false"),
    ],
)
def test_a_scalar_is_text_and_a_wrapped_value(kind: type, value: Any, shown: str, version: str) -> None:
    def fn() -> None: ...

    fn.__annotations__["return"] = kind
    result = Tool.of(fn).result(value, version)
    assert result == {
        "content": [{"type": "text", "text": shown}],
        "structuredContent": {"result": value},
        "isError": False,
    }
    assert type(result["structuredContent"]["result"]) is kind
    accept("tools/call", version, result)


def test_before_2025_06_18_a_result_is_text_only() -> None:
    for value, fn in ((3, add), (Forecast(city="x"), forecast)):
        result = Tool.of(fn).result(value, OLD)
        assert result.keys() == {"content", "isError"}
        accept("tools/call", OLD, result)


@pytest.mark.parametrize("version", STRUCTURED)
@pytest.mark.parametrize("value", [Forecast(city="x"), {"city": "x"}, {"city": "x", "degrees": (), "more": 1}])
def test_an_object_stands_for_itself_and_its_json_is_the_text(value: Any, version: str) -> None:
    result = Tool.of(forecast).result(value, version)
    assert result["structuredContent"] == {"city": "x", "degrees": []}
    assert json.loads(text(result)) == {"city": "x", "degrees": []}
    accept("tools/call", version, result)


def test_none_from_a_function_that_promises_nothing_is_no_content() -> None:
    assert Tool.of(nothing).result(None, NEW) == {"content": [], "isError": False}
    assert Tool.of(nothing).output_schema is None


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (add, None),
        (add, "three"),
        (add, 10**5000),
        (forecast, {}),
        (forecast, {"city": 1}),
        (forecast, Forecast(city="x", degrees=[math.nan])),
        (forecast, Forecast.model_construct(city=1)),
        (forecast, "x"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_result_that_breaks_its_promise_is_our_error(fn: Callable[..., Any], value: Any, version: str) -> None:
    with pytest.raises(LocalProtocolError, match=r"does not conform to its output schema|JSON cannot represent"):
        Tool.of(fn).result(value, version)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_float_that_json_has_no_number_for_is_our_error(value: float) -> None:
    def fn() -> float: ...  # type: ignore[empty-body]

    with pytest.raises(LocalProtocolError, match='result: the value is not of type "number"; got null'):
        Tool.of(fn).result(value, NEW)


def test_a_schema_that_refers_to_a_file_is_refused_even_if_the_file_is_there(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "string"}')
    with pytest.raises(ValueError, match="not a usable JSON Schema"):
        by_hand({"type": "object", "properties": {"a": {"$ref": schema.as_uri()}}})


def test_nan_under_an_output_schema_by_hand_is_null() -> None:
    tool = Tool.of(add, output_schema={"type": "object"})
    assert tool.result({"a": math.nan}, NEW)["structuredContent"] == {"a": None}


def test_an_output_schema_by_hand_is_kept_to() -> None:
    tool = Tool.of(add, output_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert tool.result({"n": 1}, NEW)["structuredContent"] == {"n": 1}
    for broken in ({}, {"n": "1"}, 1):
        with pytest.raises(LocalProtocolError):
            tool.result(broken, NEW)


def test_lone_surrogates_become_question_marks_in_text() -> None:
    assert text(Tool.of(Greeter()).result("a\udc80", NEW)) == "a?"
    assert text(Tool.of(anything, input_schema={"type": "object"}).result("a\udc80", NEW)) == "a?"
    assert text(error_result("a\udc80")) == "a?"


LINK = ResourceLink("a:b", "b")
BLOCKS = [
    TextContent("x"),
    ImageContent.of(b"x"),
    AudioContent.of(b"x"),
    LINK,
    EmbeddedResource(TextResourceContents("a:b", "x", "text/plain")),
    EmbeddedResource(BlobResourceContents("a:b", "eA==")),
    mcp_types.TextContent(type="text", text="x"),
    mcp_types.ImageContent(type="image", data="eA==", mime_type="image/png"),
]


class Markup(str):
    """As templating libraries have it."""

    __slots__ = ()


FREE = Tool.of(anything, input_schema={"type": "object"})


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_sent_as_it_is(block: Any, version: str) -> None:
    result = FREE.result(block, version)
    assert len(result["content"]) == 1
    accept("tools/call", version, result)


@pytest.mark.parametrize("value", [Markup("x"), TextContent(Markup("x")), [Markup("x"), TextContent("y")]])
def test_a_kind_of_str_is_a_str(value: Any) -> None:
    assert b'"text":"x"' in msgspec.json.encode(FREE.result(value, NEW))


def test_a_list_with_blocks_in_it_is_sent_item_by_item() -> None:
    result = FREE.result(["a", ImageContent.of(b"x"), 3, {"k": None}], NEW)
    assert [block.get("text", block["type"]) for block in result["content"]] == ["a", "image", "3", '{"k":null}']


def test_a_list_without_blocks_is_one_json_text() -> None:
    assert text(FREE.result(["a", 1], NEW)) == '["a",1]'


def test_a_link_is_text_for_clients_that_know_none() -> None:
    assert text(FREE.result(LINK, OLD)) == "b: a:b"


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        TextContent("\ud800"),
        [TextContent("\ud800")],
        {"a": ["\ud800"]},
        {"\ud800": 1},
        CallToolResult(content=[TextContent("\ud800")]),
        CallToolResult(content=[TextContent("?")], structured_content={"a": ["\ud800"]}),
    ],
)
def test_text_that_utf_8_cannot_carry_is_cleaned_everywhere(value: Any) -> None:
    result = FREE.result(value, NEW)
    assert "?" in text(result)
    assert b"?" in msgspec.json.encode(result)


def test_a_promised_value_s_text_is_cleaned_too() -> None:
    result = Tool.of(forecast).result(Forecast(city="\ud800"), NEW)
    assert result["structuredContent"]["city"] == "?"


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(
    "value",
    [
        CallToolResult([TextContent("x"), LINK], {"a": 1}, True, {"m": 1}),
        mcp_types.CallToolResult(
            content=[
                mcp_types.TextContent(type="text", text="x"),
                mcp_types.ResourceLink(type="resource_link", uri="a:b", name="b"),
            ],
            structured_content={"a": 1},
            is_error=True,
            _meta={"m": 1},
        ),
    ],
)
def test_a_whole_result_is_sent_as_it_is_and_cut_down_to_its_reader(value: Any, version: str) -> None:
    result = FREE.result(value, version)
    assert result["isError"] is True
    assert result["_meta"] == {"m": 1}
    assert ("structuredContent" in result) is (version > OLD)
    assert [block["type"] for block in result["content"]] == ["text", "resource_link" if version > OLD else "text"]
    accept("tools/call", version, result)


def test_a_whole_result_keeps_the_promise_of_its_tool() -> None:
    tool = Tool.of(add)
    assert tool.result(CallToolResult(structured_content={"result": 3}), NEW)["structuredContent"] == {"result": 3}
    for broken in (CallToolResult(), CallToolResult(structured_content={"result": "3"})):
        with pytest.raises(LocalProtocolError, match="output schema"):
            tool.result(broken, NEW)


def test_a_whole_result_that_reports_an_error_owes_nothing() -> None:
    assert Tool.of(add).result(CallToolResult([TextContent("no")], is_error=True), NEW)["isError"] is True


@pytest.mark.parametrize("version", SERVED_VERSIONS)
def test_an_error_is_a_result_that_says_so(version: str) -> None:
    result = error_result("no")
    assert result == {"content": [{"type": "text", "text": "no"}], "isError": True}
    accept("tools/call", version, result)


@given(JSON)
def test_whatever_a_function_returns_is_valid_json_or_our_error(value: Any) -> None:
    encoded = b"null"
    with suppress(LocalProtocolError):
        encoded = msgspec.json.encode(FREE.result(value, NEW))
    json.loads(encoded, parse_constant=lambda name: pytest.fail(name))
