"""Suggestions for arguments."""

from __future__ import annotations

from typing import Any

import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.features.oracle import accept
from trio_mcp.features.completions import Completions, values
from trio_mcp.features.injection import HandlerContext
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.types import Completion
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2026_07_28

PROMPT = {"type": "ref/prompt", "name": "review"}


def suggest(value: str) -> list[str]:
    return [value]


def suggest_more(value: str, arguments: dict[str, str], ctx: HandlerContext) -> list[str]:
    return [value]


def test_a_completer_is_found_by_what_it_completes() -> None:
    completions = Completions()
    completions.add("review", "code", suggest)
    completions.add("weather://{city}", "city", suggest)
    assert completions
    assert completions.find(PROMPT, "code") is not None
    assert completions.find({"type": "ref/resource", "uri": "weather://{city}"}, "city") is not None
    assert completions.find(PROMPT, "depth") is None
    assert completions.find({"type": "ref/prompt", "name": "other"}, "code") is None


def test_without_completers_there_is_nothing_to_declare() -> None:
    assert not Completions()


def test_an_argument_has_one_completer() -> None:
    completions = Completions()
    completions.add("review", "code", suggest)
    with pytest.raises(ValueError, match="code of review has a completion already"):
        completions.add("review", "code", suggest)


@pytest.mark.parametrize(
    "ref",
    [None, "review", [], {}, {"type": "ref/prompt"}, {"type": "ref/tool", "name": "x"}, {"type": "ref/prompt", "uri": "x"},
     {"type": ["ref/prompt"], "name": "x"}, {"type": "ref/prompt", "name": 1}],
)  # fmt: skip
def test_what_is_no_reference_is_invalid_params(ref: Any) -> None:
    with pytest.raises(InvalidParams):
        Completions().find(ref, "x")


def test_a_completer_takes_what_was_typed_and_if_it_wants_the_arguments_known() -> None:
    completions = Completions()
    assert completions.add("a", "b", suggest).bind("x", {"k": "v"}) == {"value": "x"}
    assert completions.add("a", "c", suggest_more).bind("x", {"k": "v"}) == {"value": "x", "arguments": {"k": "v"}}
    assert completions.add("a", "d", suggest_more).bind("x") == {"value": "x", "arguments": {}}


def test_the_first_parameter_takes_what_was_typed_whatever_its_name() -> None:
    def fn(partial: str) -> list[str]:
        return []

    assert Completions().add("a", "b", fn).bind("x") == {"partial": "x"}


def test_arguments_that_do_not_fit_are_invalid_params() -> None:
    broken: Any = {"k": 1}
    with pytest.raises(InvalidParams, match=r"arguments.k"):
        Completions().add("a", "b", suggest_more).bind("x", broken)


@pytest.mark.parametrize("source", ["lambda: []", "lambda arguments: []", "lambda a, b: []"])
def test_a_function_that_cannot_complete_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"takes \(value\), or \(value, arguments\)"):
        Completions().add("a", "b", eval(source))


@pytest.mark.parametrize(
    ("result", "completion"),
    [
        (None, {"values": [], "total": 0, "hasMore": False}),
        ([], {"values": [], "total": 0, "hasMore": False}),
        (["a", "b"], {"values": ["a", "b"], "total": 2, "hasMore": False}),
        ("abc", {"values": ["abc"], "total": 1, "hasMore": False}),
        (("a",), {"values": ["a"], "total": 1, "hasMore": False}),
        ((str(n) for n in range(2)), {"values": ["0", "1"], "total": 2, "hasMore": False}),
        ([1, "a\udc80"], {"values": ["1", "a?"], "total": 2, "hasMore": False}),
        (Completion(["a"]), {"values": ["a"], "total": 1, "hasMore": False}),
        (Completion(["a"], 5), {"values": ["a"], "total": 5, "hasMore": True}),
        (Completion(["a"], has_more=True), {"values": ["a"], "hasMore": True}),
        (mcp_types.Completion(values=["a"], total=1), {"values": ["a"], "total": 1, "hasMore": False}),
    ],
)
def test_suggestions_are_counted(result: Any, completion: dict[str, Any]) -> None:
    assert values(result) == {"completion": completion}


def test_no_more_than_a_hundred_are_sent() -> None:
    completion = values([str(n) for n in range(101)])["completion"]
    assert (len(completion["values"]), completion["total"], completion["hasMore"]) == (100, 101, True)


@given(st.none() | st.lists(st.text() | st.integers(), max_size=150))
def test_the_official_types_take_every_result(result: Any) -> None:
    for version in SERVED_VERSIONS:
        accept("completion/complete", version, values(result))
    assert len(values(result)["completion"]["values"]) <= 100
    assert V2026_07_28 in SERVED_VERSIONS
