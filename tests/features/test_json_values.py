"""How Python values become JSON, by the same rules in results, logs and progress."""

from __future__ import annotations

import collections
import datetime as dt
import ipaddress
import json
import math
import pathlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import mcp_types
import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from trio_mcp.features.json_values import json_number, json_text, json_value, sendable
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import LocalProtocolError
from trio_mcp.protocol.types import ImageContent, TextContent
from trio_mcp.protocol.versions import V2026_07_28


class Int64:
    """As numpy.int64 without `dtype`: a number by what it converts to."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number

    def __float__(self) -> float:
        return float(self.number)

    def __str__(self) -> str:
        return "a number"


class Float32:
    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        return self.number


class Array:
    """As numpy.ndarray, and as its scalars."""

    dtype = "float64"

    def __init__(self, items: Any) -> None:
        self.items = items

    def __index__(self) -> int:
        raise TypeError("only one item may be an index")

    def tolist(self) -> Any:
        return self.items


class Double(float): ...


class Text(str): ...


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Place(BaseModel):
    name: str = "x"
    raw: bytes = b"\xff\xfe"
    price: Decimal = Decimal("1.10")
    more: Any = None


class Hex(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex")
    raw: bytes = b"\xff"


@dataclass
class Size:
    width: Any


class Struct(msgspec.Struct):
    value: Any


class Opaque:
    def __str__(self) -> str:
        return "opaque"


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024

CASES: list[tuple[Any, Any]] = [
    (Int64(3), 3),
    (Float32(1.5), 1.5),
    (Float32(math.nan), None),
    (Array([1.5, math.inf]), [1.5, None]),
    (Array(dt.date(2026, 1, 2)), "2026-01-02"),
    (Double(1.5), 1.5),
    (Level.LOW, 1),
    (Colour.RED, "red"),
    (Decimal("0.5"), 0.5),
    (Decimal("1.10"), 1.1),
    (Decimal(3), 3),
    (Decimal("123456789012345678901234567890.5"), "123456789012345678901234567890.5"),
    (Decimal("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
    (Decimal("NaN"), None),
    (Decimal("-Infinity"), None),
    (Decimal("1e400"), "1E+400"),
    (Fraction(1, 2), 0.5),
    (Fraction(1, 3), "1/3"),
    (Fraction(10**400), str(10**400)),
    (math.nan, None),
    (-math.inf, None),
    (2**70, 2**70),
    (1 + 2j, "1+2j"),
    (Text("x"), "x"),
    ("caf\udce9", "caf?"),
    ({"caf\udce9": ["\ud800", ("\udfff",)]}, {"caf?": ["?", ["?"]]}),
    (pathlib.PurePosixPath("caf\udce9"), "caf?"),
    (b"\xff\xfe", "//4="),
    (bytearray(b"\xff\xfe"), "//4="),
    (memoryview(b"\xff\xfe"), "//4="),
    ({b"\xff\xfe": b"\xfb"}, {"//4=": "+w=="}),
    (ValueError("no"), "no"),
    (ValueError(), "ValueError"),
    (KeyError("k"), "'k'"),
    (dt.datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
    (dt.timedelta(seconds=90), "PT1M30S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (ipaddress.ip_address("1.2.3.4"), "1.2.3.4"),
    (Opaque(), "opaque"),
    (Colour, "<enum 'Colour'>"),
    (int, "<class 'int'>"),
    (Place, str(Place)),
    ({1}, [1]),
    (frozenset({Colour.RED}), ["red"]),
    (range(2), [0, 1]),
    (iter([1, b"\xff"]), [1, "/w=="]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.keys(), ["a"]),
    (collections.deque([Int64(1)]), [1]),
    (collections.OrderedDict(a=Int64(1)), {"a": 1}),
    (Point(1, Int64(2)), [1, 2]),
    (
        {1: 1, 1.5: 2, None: 3, Colour.RED: 4, (1, 2): 5, False: 6},
        {"1": 1, "false": 6, "1.5": 2, "None": 3, "red": 4, "1,2": 5},
    ),
    ({dt.date(2026, 1, 2): 1, Opaque(): 2}, {"2026-01-02": 1, "opaque": 2}),
    (
        Place(more=[b"\xff", Decimal("1.5"), Int64(3), math.nan, "\ud800"]),
        {"name": "x", "raw": "//4=", "price": "1.10", "more": ["/w==", 1.5, 3, None, "?"]},
    ),
    ([Place(name="\ud800")], [{"name": "?", "raw": "//4=", "price": "1.10", "more": None}]),
    (Hex(), {"raw": "ff"}),
    (Size([b"\xff", Int64(1)]), {"width": ["/w==", 1]}),
    (Struct([Int64(1), b"\xff", Place]), {"value": [1, "/w==", str(Place)]}),
    (TextContent("x"), {"type": "text", "text": "x"}),
    (mcp_types.TextContent(text="x"), {"type": "text", "text": "x"}),
]


@pytest.mark.parametrize(("value", "expected"), CASES, ids=range(len(CASES)))
def test_a_value_is_the_same_json_alone_and_inside(value: Any, expected: Any) -> None:
    found = json_value(value)
    assert found == expected
    assert json.loads(json_text(found)) == expected
    if not hasattr(value, "__next__"):
        assert json_value({"a": [value]}) == {"a": [expected]}
        assert json_value(Place(more=value))["more"] == expected


@pytest.mark.parametrize("kind", [dict, dict[str, Any]])
def test_an_annotation_that_says_any_leaves_the_rule_as_it_is(kind: Any) -> None:
    def fn() -> None: ...

    fn.__annotations__["return"] = kind
    values = {str(at): value for at, (value, _) in enumerate(CASES) if not hasattr(value, "__next__")}
    expected = {str(at): wanted for at, (value, wanted) in enumerate(CASES) if not hasattr(value, "__next__")}
    assert Tool.of(fn).result(values, V2026_07_28)["structuredContent"] == expected


def circular() -> Any:
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    return loop


@pytest.mark.parametrize("make", [circular, lambda: 10**5000])
def test_what_no_json_says_is_our_error(make: Callable[[], Any]) -> None:
    with pytest.raises(LocalProtocolError):
        json_text(json_value(make()))


def test_what_can_be_sent_is_sent_as_it_is() -> None:
    value = {"a": [1, "x"]}
    assert sendable(value) is value
    assert sendable({"a": ["\ud800"]}) == {"a": ["?"]}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Decimal("0.5"), 0.5),
        (Decimal("0.1000000000000000055511151231257827"), 0.1),
        (Fraction(1, 3), 1 / 3),
        (Fraction(10**400), None),
        (Decimal("1e400"), None),
        (Decimal("sNaN"), None),
        (Int64(3), 3),
        (Float32(0.5), 0.5),
        (Array(7), 7),
        (True, 1),
        (Level.LOW, 1),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ("50", None),
        (None, None),
        (Array([1, 2]), None),
        (Opaque(), None),
    ],
)
def test_numbers_of_every_type_are_numbers_and_nothing_else_is(value: Any, number: Any) -> None:
    found = json_number(value)
    assert found == number
    assert type(found) is type(number)


# --- blocks under loose annotations

PICTURE = ImageContent.of(b"\xff\xfe")
ANYTHING = [
    list,
    tuple,
    list[Any],
    list[object],
    tuple[Any, ...],
    tuple[str, Any],
    Any,
    object,
    Any | None,
    list | None,
    list[Any] | str,
    list[list[Any]],
    collections.abc.Sequence,
    collections.abc.Sequence[Any],
    collections.abc.Iterable[Any],
    collections.abc.Iterator[Any],
    collections.abc.Collection[Any],
    collections.deque,
]


def returning(kind: Any) -> Tool:
    def fn() -> None: ...

    fn.__annotations__["return"] = kind
    return Tool.of(fn)


@pytest.mark.parametrize("kind", ANYTHING)
@pytest.mark.parametrize(
    "make",
    [
        lambda: ["the chart", PICTURE],
        lambda: ("the chart", PICTURE),
        lambda: ["the chart", [PICTURE]],
        lambda: iter(["the chart", PICTURE]),
        lambda: (item for item in ("the chart", PICTURE)),
        lambda: collections.deque(["the chart", PICTURE]),
        lambda: {"a": "the chart", "b": PICTURE}.values(),
        lambda: ["the chart", mcp_types.ImageContent(data="//4=", mime_type="image/png")],
    ],
)
def test_blocks_under_a_loose_annotation_stay_blocks(kind: Any, make: Callable[[], Any]) -> None:
    tool = returning(kind)
    assert tool.output_schema is None
    assert tool.result(make(), V2026_07_28)["content"] == [
        {"type": "text", "text": "the chart"},
        {"type": "image", "data": "//4=", "mimeType": "image/png"},
    ]


@pytest.mark.parametrize("kind", [Any, object, dict[str, ImageContent]])
def test_blocks_in_a_mapping_stay_blocks_behind_their_keys(kind: Any) -> None:
    content = returning(kind).result({"before": PICTURE, "more": {"n": [1], "after": [PICTURE]}}, V2026_07_28)[
        "content"
    ]
    assert [block.get("text", block["type"]) for block in content] == [
        *("before", "image", "more", "n", "[1]", "after", "image"),
    ]


def test_a_mapping_without_blocks_is_one_json_text() -> None:
    value = {"a": iter([1, 2]), "b": {"c": b"\xff"}}
    assert returning(Any).result(value, V2026_07_28)["content"] == [
        {"type": "text", "text": '{"a":[1,2],"b":{"c":"/w=="}}'}
    ]


@pytest.mark.parametrize("kind", [dict, dict[str, Any], list[int], list[dict[str, Any]], tuple[int, ...], Point])
def test_what_cannot_hold_blocks_keeps_its_promise(kind: Any) -> None:
    assert returning(kind).output_schema is not None


def test_an_iterator_is_read_once_and_not_by_looking_at_it() -> None:
    assert returning(Any).result(iter([1, 2]), V2026_07_28)["content"][0]["text"] == "[1,2]"
    assert returning(collections.abc.Iterable[int]).result(iter([1, 2]), V2026_07_28)["structuredContent"] == {
        "result": [1, 2]
    }


def test_structured_output_can_still_be_insisted_on() -> None:
    def fn() -> list: ...  # type: ignore[type-arg,empty-body]

    assert Tool.of(fn, structured_output=True).result([1], V2026_07_28)["structuredContent"] == {"result": [1]}
