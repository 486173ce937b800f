"""Values under their wire names, and made from bytes and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trio_mcp.features.prompts import Prompt
from trio_mcp.features.tools import Tool
from trio_mcp.protocol import types
from trio_mcp.protocol.headers import Headers
from trio_mcp.protocol.media import Audio, File, Image
from trio_mcp.protocol.wire import to_wire

CONTENTS = types.TextResourceContents("a:b", "x")
SPELLINGS: list[tuple[str, dict[str, Any], Any]] = [
    ("TextContent", {"type": "text", "text": "a"}, types.TextContent("a")),
    ("ImageContent", {"type": "image", "data": "AA", "mimeType": "a/b"}, types.ImageContent("AA", "a/b")),
    ("AudioContent", {"type": "audio", "data": "AA", "mimeType": "a/b"}, types.AudioContent("AA", "a/b")),
    (
        "ResourceLink",
        {"type": "resource_link", "uri": "a:b", "name": "n", "mimeType": "a/b"},
        types.ResourceLink("a:b", "n", mime_type="a/b"),
    ),
    (
        "EmbeddedResource",
        {"type": "resource", "resource": CONTENTS, "_meta": {"a": 1}},
        types.EmbeddedResource(CONTENTS, meta={"a": 1}),
    ),
    (
        "ToolAnnotations",
        {"readOnlyHint": True, "open_world_hint": False},
        types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    ("CallToolResult", {"content": [], "isError": True, "structuredContent": {}}, types.CallToolResult([], {}, True)),
    ("Icon", {"src": "a:b", "mimeType": "image/png"}, types.Icon("a:b", "image/png")),
    ("Completion", {"values": [], "hasMore": True}, types.Completion([], has_more=True)),
]


@pytest.mark.parametrize(
    ("name", "fields", "value"), [row for row in SPELLINGS if row[2]], ids=lambda it: it if isinstance(it, str) else ""
)
def test_fields_are_taken_and_read_under_their_wire_names(name: str, fields: dict[str, Any], value: Any) -> None:
    made = getattr(types, name)(**fields)
    assert made == value
    for wire, given in fields.items():
        assert getattr(made, wire) == given


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("TextContent", {"type": "image", "text": "a"}, "is of type 'text', not 'image': leave type= out"),
    ("TextContent", {"txt": "a"}, "has no field txt; it has text, annotations, meta"),
    ("TextContent", {}, "text"),
    ("ToolAnnotations", {"type": "x"}, "has no field type"),
    ("Icon", {"src": "a", "mimetype": "b"}, "has no field mimetype"),
]


@pytest.mark.parametrize(("name", "fields", "words"), WRONG)
def test_a_field_that_is_none_is_told_with_those_there_are(name: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        getattr(types, name)(**fields)


def test_an_attribute_that_is_none_is_one() -> None:
    with pytest.raises(AttributeError, match="'TextContent' object has no attribute 'mimeType'"):
        types.TextContent("a").mimeType  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(types.Icon("a:b"), "type")


def test_headers_are_text_by_name_in_any_case() -> None:
    headers = Headers({b"user-agent": b" me\xe9 ", b"x": b"1"})
    assert headers["User-Agent"] == headers.get("user-agent") == "me\xe9"
    assert (headers.get("none"), "X" in headers, list(headers), len(headers)) == (None, True, ["user-agent", "x"], 2)
    assert headers.get("\u20ac") is None
    assert "me" not in repr(headers)
    with pytest.raises(TypeError, match="looked up by text"):
        headers.get(b"user-agent")  # type: ignore[call-overload]


PNG = b"\x89PNG"
MADE: list[tuple[Any, dict[str, Any]]] = [
    (lambda at: Image(data=PNG), {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}),
    (lambda at: Image(data=PNG, format="JPG"), {"type": "image", "data": "iVBORw==", "mimeType": "image/jpeg"}),
    (
        lambda at: Image(data=PNG, format="image/x-own"),
        {"type": "image", "data": "iVBORw==", "mimeType": "image/x-own"},
    ),
    (lambda at: Image(data=PNG, format="bmp"), {"type": "image", "data": "iVBORw==", "mimeType": "image/bmp"}),
    (lambda at: Image(at / "a.gif"), {"type": "image", "data": "iVBORw==", "mimeType": "image/gif"}),
    (
        lambda at: Image(path=str(at / "a.gif"), format="png"),
        {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
    ),
    (lambda at: Audio(data=PNG), {"type": "audio", "data": "iVBORw==", "mimeType": "audio/wav"}),
    (lambda at: Audio(data=PNG, format="mp3"), {"type": "audio", "data": "iVBORw==", "mimeType": "audio/mpeg"}),
    (
        lambda at: File(at / "a b.txt"),
        {"type": "resource", "resource": {"uri": "file:///a%20b.txt", "mimeType": "text/plain", "text": "hi"}},
    ),
    (
        lambda at: File(data=b"{}", format="json", name="x"),
        {"type": "resource", "resource": {"uri": "file:///x", "mimeType": "application/json", "blob": "e30="}},
    ),
    (
        lambda at: File(data=b"\xff", format="txt"),
        {"type": "resource", "resource": {"uri": "file:///file.plain", "mimeType": "text/plain", "blob": "/w=="}},
    ),
]


@pytest.mark.parametrize(("make", "wire"), MADE)
def test_bytes_and_files_become_blocks_wherever_blocks_are_taken(
    make: Any, wire: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.gif").write_bytes(PNG)
    (tmp_path / "a b.txt").write_bytes(b"hi")
    made = make(tmp_path)
    assert to_wire(made) == wire

    def fn() -> Image:
        return made  # type: ignore[no-any-return]

    tool = Tool.of(fn)
    assert tool.output_schema is None
    for value in (made, [made], types.CallToolResult([made])):
        assert tool.result(value, "2025-11-25")["content"] == [wire]
    assert tool.result(["a", made], "2025-11-25")["content"][1] == wire


@pytest.mark.parametrize("kind", [Image, Audio, File])
def test_what_is_made_has_either_a_path_or_data(kind: Any) -> None:
    for arguments in ({}, {"path": "a", "data": b""}):
        with pytest.raises(TypeError, match="either a path or data"):
            kind(**arguments)
    with pytest.raises(FileNotFoundError):
        kind("/nowhere/at/all.png")


def test_messages_by_who_says_them() -> None:
    def fn() -> None: ...

    said = [
        types.UserMessage("a"),
        types.AssistantMessage(content=types.TextContent("b")),
        types.UserMessage(Image(data=PNG)),
    ]
    assert Prompt.of(fn).result(said, "2025-11-25")["messages"] == [
        {"role": "user", "content": {"type": "text", "text": "a"}},
        {"role": "assistant", "content": {"type": "text", "text": "b"}},
        {"role": "user", "content": {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}},
    ]
