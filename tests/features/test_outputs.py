"""Output schemas from return annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from uuid import UUID

import mcp_types
import msgspec
import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypedDict

from tests.features.oracle import accept
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import LocalProtocolError
from trio_mcp.protocol.types import CallToolResult, ImageContent, TextContent
from trio_mcp.protocol.versions import V2025_06_18, V2025_11_25, V2026_07_28

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class Colour(Enum):
    RED = "red"


class Place(BaseModel):
    name: str
    user_id: int | None = Field(default=None, alias="userId")


class Node(BaseModel):
    children: list[Node] = []


class Row(TypedDict):
    x: int


class Pair(NamedTuple):
    x: int
    y: str


@dataclass
class Size:
    width: int
    at: datetime | None = None


class Struct(msgspec.Struct):
    x: int
    at: datetime | None = None


class Names(RootModel[list[str]]):
    pass


class Opaque:
    def __str__(self) -> str:
        return "opaque"


def returning(kind: Any, **options: Any) -> Tool:
    def fn() -> None: ...

    fn.__annotations__["return"] = kind
    return Tool.of(fn, **options)


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

CASES: list[tuple[Any, Any, Any]] = [
    (Place, Place(name="x"), {"name": "x", "userId": None}),
    (Node, Node(children=[Node()]), {"children": [{"children": []}]}),
    (Row, {"x": 1}, {"x": 1}),
    (Size, Size(1, NOON), {"width": 1, "at": "2026-01-02T12:00:00Z"}),
    (Struct, Struct(1, NOON), {"x": 1, "at": "2026-01-02T12:00:00Z"}),
    (dict, {"a": [1]}, {"a": [1]}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[int, int], {1: 1}, {"1": 1}),
    (dict[str, Any], {"a": NOON, "b": Struct(1)}, {"a": "2026-01-02T12:00:00Z", "b": {"x": 1, "at": None}}),
]
WRAPPED: list[tuple[Any, Any, Any]] = [
    (list[str], ["a"], ["a"]),
    (list[Place], [Place(name="x")], [{"name": "x", "userId": None}]),
    (list[Node], [Node()], [{"children": []}]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (set[int], {1}, [1]),
    (frozenset[int], frozenset({1}), [1]),
    (Pair, Pair(1, "a"), [1, "a"]),
    (Names, Names(["a"]), ["a"]),
    (int | None, None, None),
    (int | str, "a", "a"),
    (Place | None, Place(name="x"), {"name": "x", "userId": None}),
    (Annotated[int, Field(ge=0)], 1, 1),
    (Literal["a", "b"], "a", "a"),
    (Colour, Colour.RED, "red"),
    (datetime, NOON, "2026-01-02T12:00:00Z"),
    (date, date(2026, 1, 2), "2026-01-02"),
    (timedelta, timedelta(seconds=90), "PT1M30S"),
    (Decimal, Decimal("1.10"), "1.10"),
    (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath, PurePosixPath("/a"), "/a"),
    (bytes, b"\xff\xfe", "//4="),
    (list[bytes], [b"\xff"], ["/w=="]),
]


@pytest.mark.parametrize("version", [V2025_06_18, V2025_11_25, V2026_07_28])
@pytest.mark.parametrize(("kind", "value", "wire"), CASES)
def test_objects_are_promised_and_sent_as_they_are(kind: Any, value: Any, wire: Any, version: str) -> None:
    tool = returning(kind)
    result = tool.result(value, version)
    assert result["structuredContent"] == wire
    assert json.loads(result["content"][0]["text"]) == wire
    accept("tools/list", version, {"tools": [tool.definition(version)]})
    accept("tools/call", version, result)


@pytest.mark.parametrize("version", [V2025_06_18, V2025_11_25, V2026_07_28])
@pytest.mark.parametrize(("kind", "value", "wire"), WRAPPED)
def test_everything_else_is_wrapped(kind: Any, value: Any, wire: Any, version: str) -> None:
    tool = returning(kind)
    result = tool.result(value, version)
    assert result["structuredContent"] == {"result": wire}
    assert result["content"][0]["text"] == (wire if isinstance(wire, str) else json.dumps(wire, separators=(",", ":")))
    accept("tools/list", version, {"tools": [tool.definition(version)]})
    accept("tools/call", version, result)


def test_a_wrapped_schema_keeps_its_definitions_at_the_root() -> None:
    schema = returning(list[Node]).output_schema
    assert schema is not None
    assert schema["properties"]["result"]["items"] == {"$ref": "#/$defs/Node"}
    assert "Node" in schema["$defs"]


@pytest.mark.parametrize(
    "kind",
    [
        None,
        Any,
        object,
        TextContent,
        list[ImageContent],
        list[str | ImageContent],
        tuple[TextContent, ...],
        ImageContent | None,
        Annotated[TextContent, "x"],
        CallToolResult,
        mcp_types.TextContent,
        list[mcp_types.ContentBlock],
        mcp_types.CallToolResult,
        Opaque,
        list[Opaque],
        list[Struct],
    ],
)
def test_some_annotations_promise_nothing(kind: Any) -> None:
    tool = returning(kind)
    assert tool.output_schema is None
    assert not tool.structured


def test_without_annotation_nothing_is_promised() -> None:
    def fn():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return {"a": 1}

    assert Tool.of(fn).result({"a": 1}, V2026_07_28) == {
        "content": [{"type": "text", "text": '{"a":1}'}],
        "isError": False,
    }


def test_structured_output_can_be_switched_off() -> None:
    tool = returning(Place, structured_output=False)
    assert not tool.structured
    assert "structuredContent" not in tool.result(Place(name="x"), V2026_07_28)


@pytest.mark.parametrize("kind", [None, Any, Opaque, TextContent])
def test_structured_output_can_be_insisted_on(kind: Any) -> None:
    with pytest.raises(ValueError, match="structured_output needs a return annotation"):
        returning(kind, structured_output=True)
    assert returning(int, structured_output=True).structured


def test_a_return_annotation_that_cannot_be_evaluated_is_refused() -> None:
    def fn() -> Missing: ...

    with pytest.raises(ValueError, match="cannot evaluate its return annotation 'Missing'"):
        Tool.of(fn)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Opaque(), "opaque"),
        ({"a": Opaque(), 1: Struct(1)}, '{"a":"opaque","1":{"x":1,"at":null}}'),
        (b"\xff", "/w=="),
        ([float("nan"), float("inf")], "[null,null]"),
        ({(1, 2): {3}}, '{"1,2":[3]}'),
        (Colour.RED, "red"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (True, "true"),
    ],
)
def test_a_value_nobody_promised_is_its_text_or_json(value: Any, text: str) -> None:
    assert returning(Any).result(value, V2026_07_28)["content"] == [{"type": "text", "text": text}]


def circular() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep() -> Any:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


@pytest.mark.parametrize("make", [circular, deep, lambda: {"a": 10**5000}])
@pytest.mark.parametrize("kind", [Any, list[Any], dict[str, Any]])
def test_what_json_cannot_say_is_our_error(make: Callable[[], Any], kind: Any) -> None:
    with pytest.raises(LocalProtocolError):
        returning(kind).result(make(), V2026_07_28)


def test_a_subclass_tells_no_more_than_was_promised() -> None:
    class Secret(Place):
        password: str = "secret"

    assert "secret" not in str(returning(Place).result(Secret(name="x"), V2026_07_28))


def test_attributes_serve_as_well_as_members() -> None:
    class Record:
        name = "x"
        userId = 1

    assert returning(Place).result(Record(), V2026_07_28)["structuredContent"] == {"name": "x", "userId": 1}


LARGEST = int(float.fromhex("0x1.fffffffffffffp+1023"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("kind", "of", "where"),
    [
        (int, lambda n: n, "$.result"),
        (int | str, lambda n: n, "$.result"),
        (list[int], lambda n: [1, n], "$.result.1"),
        (dict[str, int], lambda n: {"a": n}, "$.a"),
        (dict[str, Any], lambda n: {"a": [{"b": n}]}, "$.a.0.b"),
        (Annotated[CallToolResult, Row], lambda n: CallToolResult(content=[], structured_content={"x": n}), "$.x"),
    ],
)
def test_an_integer_that_javascript_reads_as_infinity_is_the_tools_fault(
    kind: Any, of: Callable[[int], Any], where: str, sign: int
) -> None:
    tool = returning(kind)
    assert tool.result(of(sign * LARGEST), V2025_11_25)["isError"] is False
    for beyond in (LARGEST + 1, 10**400):
        with pytest.raises(
            LocalProtocolError, match=rf": {re.escape(where)} is an integer beyond 1\.8e308.*return text"
        ):
            tool.result(of(sign * beyond), V2025_11_25)
