"""Output schemas of results by hand, and of the TypedDict of Python 3.11."""

from __future__ import annotations

import sys
import typing
from typing import Annotated, Any, NotRequired, Required

import pytest
from pydantic import BaseModel, Field

from trio_mcp.features.functions import modernized
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import LocalProtocolError
from trio_mcp.protocol.types import CallToolResult


class Stock(BaseModel):
    """What is left."""

    left: int


class Inner(typing.TypedDict):
    """Inside."""

    n: int


class Plain(typing.TypedDict, total=False):
    """With every kind of key."""

    name: Required[str]
    size: NotRequired[int]
    inner: Inner
    rest: list[Inner | None]


class Endless(typing.TypedDict):
    """Refers to itself."""

    more: list[Endless]


def by_hand(result: Any) -> Tool:
    def fn() -> Annotated[CallToolResult, Stock]:
        return result  # type: ignore[no-any-return]

    return Tool.of(fn)


def test_a_result_by_hand_has_the_output_schema_of_the_model_beside_it() -> None:
    tool = by_hand(None)
    assert tool.output_schema is not None
    assert tool.output_schema["properties"] == {"left": {"type": "integer"}}
    right = CallToolResult(structured_content={"left": 3})
    assert tool.result(right, "2025-11-25")["structuredContent"] == {"left": 3}
    with pytest.raises(LocalProtocolError, match="does not conform"):
        tool.result(CallToolResult(structured_content={"left": "x"}), "2025-11-25")


def test_a_result_by_hand_with_nothing_but_a_description_promises_nothing() -> None:
    def fn() -> Annotated[CallToolResult, Field(description="x")]:
        raise NotImplementedError

    assert Tool.of(fn).output_schema is None


def test_a_typed_dict_of_typing_has_the_schema_it_has_on_later_pythons() -> None:
    def fn(given: Plain) -> Plain:
        return given

    tool = Tool.of(fn)
    assert tool.output_schema is not None
    assert tool.output_schema["required"] == ["name"]
    assert list(tool.output_schema["properties"]) == ["name", "size", "inner", "rest"]
    value = tool.bind({"given": {"name": "a", "rest": [{"n": "1"}, None]}})
    assert value == {"given": {"name": "a", "rest": [{"n": 1}, None]}}


@pytest.mark.parametrize(
    "hint",
    [list[Inner], dict[str, Inner], Inner | None, typing.Optional[Inner], Annotated[Inner, "x"], tuple[Inner, ...]],  # noqa: UP045
    ids=str,
)
def test_a_typed_dict_is_found_wherever_an_annotation_has_one(hint: Any) -> None:
    def fn() -> Any: ...

    fn.__annotations__["return"] = hint
    tool = Tool.of(fn)
    assert tool.output_schema is not None
    assert "\"n\": {'type': 'integer'}".replace('"', "'") in str(tool.output_schema)


def test_what_holds_none_stays_as_it_is() -> None:
    for hint in (int, list[int], int | None, Annotated[int, 1], Any, CallToolResult):
        assert modernized(hint) == hint


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes it from 3.12 on")
def test_one_that_refers_to_itself_says_what_to_import() -> None:
    def fn(given: Endless) -> str:
        return ""

    with pytest.raises(ValueError, match=r"typing_extensions\.TypedDict"):
        Tool.of(fn)
