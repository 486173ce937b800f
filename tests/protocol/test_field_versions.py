"""What an older version does not know is not sent to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trio_mcp.protocol import field_versions
from trio_mcp.protocol.types import Icon, Implementation
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28

A, B, C, D = V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28

ICONS = [{"src": "https://example.org/i.png"}]
ANNOTATIONS = {"priority": 1, "lastModified": "2026-01-01T00:00:00Z"}
SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
COMMON = {"name": "n", "title": "T", "description": "d", "icons": ICONS, "_meta": {"a": 1}}
TOOL = {**COMMON, "inputSchema": SCHEMA, "outputSchema": SCHEMA, "annotations": {"readOnlyHint": True}}
RESOURCE = {**COMMON, "uri": "a:b", "mimeType": "x/y", "size": 1, "annotations": ANNOTATIONS}
PROMPT = {**COMMON, "arguments": [{"name": "a", "title": "A", "required": True}]}
LINK = {**RESOURCE, "type": "resource_link"}

OBJECTS: list[tuple[str, Callable[[dict[str, Any], str], dict[str, Any]], dict[str, Any]]] = [
    ("tool", field_versions.tool, TOOL),
    ("resource", field_versions.resource, RESOURCE),
    ("resource", field_versions.resource_template, RESOURCE),
    ("prompt", field_versions.prompt, PROMPT),
]


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(("kind", "gate", "value"), OBJECTS)
def test_exactly_the_fields_the_table_dates_later_are_left_out(
    kind: str, gate: Callable[[dict[str, Any], str], dict[str, Any]], value: dict[str, Any], version: str
) -> None:
    later = {name for name, since in field_versions.SINCE[kind].items() if since > version}
    assert gate(value, version).keys() == value.keys() - later


@pytest.mark.parametrize(("kind", "gate", "value"), OBJECTS)
def test_what_goes_in_is_not_changed(
    kind: str, gate: Callable[[dict[str, Any], str], dict[str, Any]], value: dict[str, Any]
) -> None:
    before = repr(value)
    gate(value, A)
    assert repr(value) == before


@pytest.mark.parametrize(("version", "known"), [(A, False), (B, False), (C, True), (D, True)])
def test_the_dialect_of_a_schema_is_named_from_2025_11_25(version: str, known: bool) -> None:
    assert ("$schema" in field_versions.tool(TOOL, version)["inputSchema"]) is known


@pytest.mark.parametrize("schema", [{"type": "array"}, {"anyOf": [{"type": "object"}]}, {"type": ["object", "null"]}])
def test_an_output_schema_of_more_than_objects_needs_2026_07_28(schema: dict[str, Any]) -> None:
    tool = {**TOOL, "outputSchema": schema}
    assert "outputSchema" not in field_versions.tool(tool, C)
    assert field_versions.tool(tool, D)["outputSchema"] is schema


def test_a_tool_without_output_schema_is_left_alone() -> None:
    assert field_versions.tool({"name": "n", "inputSchema": SCHEMA}, C) == {"name": "n", "inputSchema": SCHEMA}


@pytest.mark.parametrize(("version", "known"), [(A, False), (B, True), (C, True), (D, True)])
def test_nested_fields_are_dated_too(version: str, known: bool) -> None:
    assert ("title" in field_versions.prompt(PROMPT, version)["arguments"][0]) is known
    assert ("lastModified" in field_versions.resource(RESOURCE, version)["annotations"]) is known


def test_a_link_to_a_resource_is_text_with_its_uri_before_2025_06_18() -> None:
    assert field_versions.content_block(LINK, A) == {"type": "text", "text": "T: a:b"}
    assert field_versions.content_block({"type": "resource_link", "name": "n", "uri": "a:b"}, A)["text"] == "n: a:b"


def test_a_link_to_a_resource_has_no_icons_before_2025_11_25() -> None:
    assert field_versions.content_block(LINK, B).keys() == LINK.keys() - {"icons"}
    assert field_versions.content_block(LINK, C) is LINK


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_other_blocks_lose_their_meta_before_2025_06_18(kind: str) -> None:
    block = {"type": kind, "annotations": ANNOTATIONS, "_meta": {}}
    assert field_versions.content_block(block, A) == {"type": kind, "annotations": {"priority": 1}}
    assert field_versions.content_block(block, B) == block


def test_an_embedded_resource_is_cut_down_inside() -> None:
    block = {"type": "resource", "resource": {"uri": "a:b", "text": "x", "_meta": {}}}
    assert field_versions.content_block(block, A)["resource"] == {"uri": "a:b", "text": "x"}
    assert field_versions.content_block(block, B)["resource"] == {"uri": "a:b", "text": "x", "_meta": {}}


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (A, {"name", "version"}),
        (B, {"name", "version", "title"}),
        (C, {"name", "version", "title", "description", "websiteUrl", "icons"}),
        (D, {"name", "version", "title", "description", "websiteUrl", "icons"}),
    ],
)
def test_an_implementation_tells_what_its_reader_knows(version: str, fields: set[str]) -> None:
    full = Implementation("n", "1", "T", "d", "https://example.org", [Icon("https://example.org/i.png")])
    assert field_versions.implementation(full, version).keys() == fields


@pytest.mark.parametrize(
    ("version", "value", "allowed"),
    [(A, {}, False), (B, {}, True), (C, {}, True), (D, {}, True), (B, [], False), (C, 1, False), (D, [], True)],
)
def test_structured_content_is_objects_from_2025_06_18_and_anything_from_2026_07_28(
    version: str, value: Any, allowed: bool
) -> None:
    assert field_versions.has_structured_content(value, version) is allowed


def test_audio_is_an_embedded_resource_and_hints_are_left_out_before_2025_03_26() -> None:
    audio = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav", "annotations": {"priority": 1}}
    assert field_versions.content_block(audio, A) == audio
    resource = {"uri": "audio:content", "mimeType": "audio/wav", "blob": "AAAA"}
    assert field_versions.content_block(audio, V2024_11_05) == {
        "type": "resource",
        "resource": resource,
        "annotations": {"priority": 1},
    }
    assert "annotations" not in field_versions.tool(TOOL, V2024_11_05)
    assert field_versions.progress({"progress": 1, "message": "m"}, V2024_11_05) == {"progress": 1}
    assert field_versions.progress({"progress": 1, "message": "m"}, A) == {"progress": 1, "message": "m"}
    assert field_versions.capabilities({"completions": {}, "tools": {}}, V2024_11_05) == {"tools": {}}
