"""Prompts as clients see them."""

from __future__ import annotations

from typing import Annotated, Any

import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tests.features.oracle import accept
from trio_mcp.features.injection import HandlerContext
from trio_mcp.features.prompts import Prompt
from trio_mcp.protocol.errors import InvalidParams, LocalProtocolError
from trio_mcp.protocol.types import (
    EmbeddedResource,
    GetPromptResult,
    Icon,
    ImageContent,
    PromptMessage,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2025_03_26, V2026_07_28

NEW = V2026_07_28


def review(code: Annotated[str, Field(description="What to review")], ctx: HandlerContext, depth: int = 1) -> str:
    """Review some code."""
    return ""


def greet() -> str:
    return ""


REVIEW = Prompt.of(review, title="Review", icons=[Icon("https://example.org/i.png")], meta={"a": 1})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": {"type": "text", "text": text}}


def test_name_description_and_arguments_come_from_the_function() -> None:
    assert Prompt.of(review).definition(NEW) == {
        "name": "review",
        "description": "Review some code.",
        "arguments": [
            {"name": "code", "description": "What to review", "required": True},
            {"name": "depth", "required": False},
        ],
    }


def test_a_prompt_without_arguments_lists_none() -> None:
    assert Prompt.of(greet).definition(NEW) == {"name": "greet"}


@pytest.mark.parametrize("version", SERVED_VERSIONS)
def test_the_official_types_take_every_definition(version: str) -> None:
    accept("prompts/list", version, {"prompts": [REVIEW.definition(version)]})


def test_an_old_client_is_told_what_it_knows() -> None:
    assert REVIEW.definition(V2025_03_26).keys() == {"name", "description", "arguments"}


@pytest.mark.parametrize("name", ["", "<lambda>"])
def test_a_prompt_needs_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="name="):
        Prompt.of(greet, name=name)


def test_strings_are_converted_to_what_the_function_takes() -> None:
    assert REVIEW.bind({"code": "x", "depth": "2"}) == {"code": "x", "depth": 2}


def test_an_array_is_given_as_json() -> None:
    def fn(tags: list[str]) -> str:
        return ""

    assert Prompt.of(fn).bind({"tags": '["a", "b"]'}) == {"tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "code: missing, but required"),
        ({"code": "x", "depth": "deep"}, 'depth: .*; got "deep"'),
        ({"code": 1}, "The argument code of a prompt is a string; got 1"),
        ({"code": None}, "The argument code of a prompt is a string; got null"),
    ],
)
def test_arguments_that_do_not_fit_are_invalid_params(arguments: Any, words: str) -> None:
    with pytest.raises(InvalidParams, match=words):
        REVIEW.bind(arguments)


@given(st.dictionaries(st.sampled_from(["code", "depth", "ctx", "\ud800"]), st.text() | st.none() | st.integers()))
def test_hostile_arguments_bind_or_are_invalid_params(arguments: Any) -> None:
    try:
        assert REVIEW.bind(arguments).keys() == {"code", "depth"}
    except InvalidParams as error:
        assert error.code == -32602  # noqa: PT017 - either outcome is right


IMAGE = ImageContent.of(b"x")
RESOURCE = EmbeddedResource(TextResourceContents("a:b", "x", "text/plain"))


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("hi", [user("hi")]),
        (["hi", "you"], [user("hi"), user("you")]),
        ([], []),
        (None, []),
        (PromptMessage("assistant", "hi"), [{**user("hi"), "role": "assistant"}]),
        (PromptMessage("user", TextContent("hi")), [user("hi")]),
        ({"role": "assistant", "content": "hi"}, [{**user("hi"), "role": "assistant"}]),
        (user("hi"), [user("hi")]),
        (mcp_types.PromptMessage(role="user", content=mcp_types.TextContent(type="text", text="hi")), [user("hi")]),
        (mcp_types.TextContent(type="text", text="hi"), [user("hi")]),
        ({"a": 1}, [user('{"a":1}')]),
        (3, [user("3")]),
        (["a\udc80"], [user("a?")]),
    ],
)
def test_text_blocks_and_messages_become_messages(value: Any, messages: list[Any], version: str) -> None:
    result = REVIEW.result(value, version)
    assert result == {"description": "Review some code.", "messages": messages}
    accept("prompts/get", version, result)


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize("value", [IMAGE, RESOURCE, [RESOURCE, "Look."], [PromptMessage("user", IMAGE)]])
def test_blocks_of_every_kind_are_sent(value: Any, version: str) -> None:
    accept("prompts/get", version, REVIEW.result(value, version))


def test_a_link_is_text_for_clients_that_know_none() -> None:
    assert REVIEW.result(ResourceLink("a:b", "b"), V2025_03_26)["messages"] == [user("b: a:b")]


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(
    "value",
    [
        GetPromptResult([PromptMessage("user", "hi")], "Mine", {"m": 1}),
        mcp_types.GetPromptResult(
            messages=[mcp_types.PromptMessage(role="user", content=mcp_types.TextContent(type="text", text="hi"))],
            description="Mine",
            _meta={"m": 1},
        ),
    ],
)
def test_a_whole_result_is_sent_as_it_is(value: Any, version: str) -> None:
    result = REVIEW.result(value, version)
    assert result == {"description": "Mine", "messages": [user("hi")], "_meta": {"m": 1}}
    accept("prompts/get", version, result)


def test_a_prompt_without_description_gives_none() -> None:
    assert Prompt.of(greet).result("hi", NEW) == {"messages": [user("hi")]}


def test_a_model_with_role_and_content_is_a_message() -> None:
    class Message(BaseModel):
        role: str
        content: str

    assert REVIEW.result([Message(role="assistant", content="hi")], NEW)["messages"][0]["role"] == "assistant"


def test_a_role_mcp_does_not_know_is_our_error() -> None:
    with pytest.raises(LocalProtocolError, match="system"):
        REVIEW.result({"role": "system", "content": "hi"}, NEW)
