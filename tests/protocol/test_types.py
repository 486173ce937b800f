"""The values users write, on the wire and back."""

from __future__ import annotations

import json
from typing import Any

import mcp_types
import msgspec
import pytest

from trio_mcp.protocol import types
from trio_mcp.protocol.types import (
    Annotations,
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    CreateMessageResult,
    ElicitResult,
    EmbeddedResource,
    GetPromptResult,
    Icon,
    ImageContent,
    ListRootsResult,
    PromptArgument,
    PromptMessage,
    ReadResourceResult,
    ResourceLink,
    Root,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
    ToolResultContent,
    ToolUseContent,
)
from trio_mcp.protocol.wire import WireType, class_wire_name, to_wire, wire_name

FULL = [
    Icon("https://example.org/i.png", "image/png", ["48x48"], "dark"),
    Annotations(["user"], 0.5, "2026-01-01T00:00:00Z"),
    ToolAnnotations("T", True, False, True, False),
    types.Implementation("n", "1", "T", "d", "https://example.org", [Icon("https://example.org/i.png")]),
    TextContent("hi", Annotations(priority=1), {"a": 1}),
    ImageContent("eA==", "image/png"),
    AudioContent("eA==", "audio/wav"),
    ResourceLink("file:///a", "a", "A", "d", "text/plain", 3),
    EmbeddedResource(TextResourceContents("file:///a", "x", "text/plain")),
    EmbeddedResource(BlobResourceContents("file:///a", "eA==")),
    CallToolResult([TextContent("hi")], {"a": None}, True, {"m": 1}),
    PromptArgument("a", "A", "d", True),
    GetPromptResult([PromptMessage("user", TextContent("hi"))], "d"),
    ReadResourceResult([TextResourceContents("file:///a", "x")]),
    types.Completion(["a"], 1, False),
    ToolUseContent("1", "add", {"a": 1}),
    ToolResultContent("1", [TextContent("3")], {"result": 3}, True),
    SamplingMessage("assistant", [TextContent("hi"), ToolUseContent("1", "add", {})]),
    CreateMessageResult("assistant", TextContent("hi"), "m", "endTurn"),
    ElicitResult("accept", {"name": "x", "tags": ["a"]}),
    Root("file:///a", "a"),
    ListRootsResult([Root("file:///a")]),
]


@pytest.mark.parametrize("value", FULL, ids=lambda value: type(value).__name__)
def test_the_official_types_read_what_we_write_and_write_the_same(value: WireType) -> None:
    wire = to_wire(value)
    twin = getattr(mcp_types, type(value).__name__).model_validate(wire)
    assert json.loads(msgspec.json.encode(value)) == wire
    assert to_wire(twin) == {**to_wire(twin), **wire}


@pytest.mark.parametrize("value", FULL, ids=lambda value: type(value).__name__)
def test_what_was_written_reads_back(value: WireType) -> None:
    assert to_wire(msgspec.convert(to_wire(value), type(value))) == to_wire(value)


def test_fields_that_were_not_set_are_not_sent() -> None:
    assert to_wire(TextContent("hi")) == {"type": "text", "text": "hi"}
    assert to_wire(ToolAnnotations(read_only_hint=False)) == {"readOnlyHint": False}
    assert to_wire(CallToolResult()) == {}


def test_meta_is_underscored_on_the_wire_only() -> None:
    assert to_wire(TextContent("hi", meta={"a": 1}))["_meta"] == {"a": 1}


@pytest.mark.parametrize("kind", [ImageContent, AudioContent])
def test_media_are_made_from_bytes(kind: type[ImageContent | AudioContent]) -> None:
    assert kind.of(b"\xff\xfe", "x/y") == kind("//4=", "x/y")


def test_a_blob_is_made_from_bytes() -> None:
    assert BlobResourceContents.of("a:b", b"\xff\xfe", "x/y") == BlobResourceContents("a:b", "//4=", "x/y")


def test_a_client_s_sampling_answer_is_decoded_to_the_block_it_names() -> None:
    wire = {"role": "assistant", "model": "m", "content": {"type": "audio", "data": "eA==", "mimeType": "audio/wav"}}
    assert msgspec.convert(wire, CreateMessageResult).content == AudioContent("eA==", "audio/wav")


def test_a_client_s_embedded_resource_keeps_what_it_holds() -> None:
    wire = {"type": "resource", "resource": {"uri": "a:b", "blob": "eA=="}}
    assert to_wire(msgspec.convert(wire, EmbeddedResource)) == wire


@pytest.mark.parametrize(
    "wire",
    [
        {"role": "nobody", "model": "m", "content": {"type": "text", "text": "x"}},
        {"role": "user", "model": "m", "content": {"type": "video", "data": "x"}},
        {"role": "user", "content": {"type": "text", "text": "x"}},
    ],
)
def test_a_client_s_answer_that_breaks_the_schema_is_refused(wire: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire, CreateMessageResult)


def test_an_official_object_inside_one_of_ours_is_written_too() -> None:
    inner: Any = mcp_types.TextResourceContents(uri="a:b", text="x", mime_type="text/plain")
    assert to_wire(EmbeddedResource(inner))["resource"] == {"uri": "a:b", "text": "x", "mimeType": "text/plain"}


def test_a_stranger_inside_one_of_ours_is_refused() -> None:
    stranger: Any = object()
    with pytest.raises(TypeError, match="object has no place"):
        to_wire(EmbeddedResource(stranger))


def test_mappings_and_sequences_are_written_item_by_item() -> None:
    assert to_wire({"a": (Root("file:///a"), 1)}) == {"a": [{"uri": "file:///a"}, 1]}


def test_our_classes_the_official_ones_and_their_subclasses_have_a_wire_name() -> None:
    class Mine(mcp_types.TextContent):
        pass

    assert wire_name(TextContent("x")) == "TextContent"
    assert wire_name(mcp_types.TextContent(type="text", text="x")) == "TextContent"
    assert class_wire_name(Mine) == "TextContent"


@pytest.mark.parametrize("value", ["x", 1, None, {"type": "text", "text": "x"}, [TextContent("x")]])
def test_a_user_s_own_values_have_none(value: object) -> None:
    assert wire_name(value) is None
