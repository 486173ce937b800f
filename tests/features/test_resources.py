"""Resources and resource templates as clients see them."""

from __future__ import annotations

import json
from typing import Any

import mcp_types
import pytest
from pydantic import BaseModel

from tests.features.oracle import accept
from trio_mcp.features.injection import HandlerContext
from trio_mcp.features.resources import Resource, ResourceTemplate, contents
from trio_mcp.protocol.errors import InvalidArguments, LocalProtocolError, ResourceNotFoundError
from trio_mcp.protocol.types import (
    Annotations,
    BlobResourceContents,
    Icon,
    ReadResourceResult,
    TextResourceContents,
)
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2025_03_26, V2026_07_28

NEW = V2026_07_28


class Config(BaseModel):
    debug: bool


def config() -> str:
    """The configuration."""
    return ""


def weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    return ""


RESOURCE = Resource.of(
    config,
    "config://app",
    title="Config",
    mime_type="text/plain",
    size=3,
    annotations=Annotations(["user"], 1, "2026-01-01T00:00:00Z"),
    icons=[Icon("https://example.org/i.png")],
    meta={"a": 1},
)
TEMPLATE = ResourceTemplate.of(
    weather,
    "weather://{city}/{days}",
    title="Weather",
    mime_type="text/plain",
    annotations={"priority": 0.5},
    icons=[Icon("https://example.org/i.png")],
    meta={"a": 1},
)


def test_name_and_description_come_from_the_function() -> None:
    assert Resource.of(config, "config://app").definition(NEW) == {
        "uri": "config://app",
        "name": "config",
        "description": "The configuration.",
    }
    assert ResourceTemplate.of(weather, "weather://{city}").definition(NEW) == {
        "uriTemplate": "weather://{city}",
        "name": "weather",
        "description": "The weather of a city.",
    }


@pytest.mark.parametrize("version", SERVED_VERSIONS)
def test_the_official_types_take_every_definition(version: str) -> None:
    accept("resources/list", version, {"resources": [RESOURCE.definition(version)]})
    accept("resources/templates/list", version, {"resourceTemplates": [TEMPLATE.definition(version)]})


def test_an_old_client_is_told_what_it_knows() -> None:
    assert RESOURCE.definition(V2025_03_26) == {
        "uri": "config://app",
        "name": "config",
        "description": "The configuration.",
        "mimeType": "text/plain",
        "size": 3,
        "annotations": {"audience": ["user"], "priority": 1},
    }


@pytest.mark.parametrize("uri", ["", "config", "/etc/passwd", "config://a b", "config://é", "1a:b", "config://a\n"])
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is no URI"):
        Resource.of(config, uri)


def test_a_resource_has_no_value_for_an_argument() -> None:
    with pytest.raises(ValueError, match="weather takes city, which weather://here has no value for"):
        Resource.of(weather, "weather://here")


def test_a_resource_may_take_the_context() -> None:
    def fn(ctx: HandlerContext) -> str:
        return ""

    assert Resource.of(fn, "a:b").signature.context_parameter == "ctx"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("weather://{town}", "no parameter town"),
        ("weather://x/{days}", "requires city"),
        ("weather://x{?city}", "requires city, which is optional in weather://x{[?]city}"),
        ("weather://{city}{+days}", "text between"),
    ],
)
def test_variables_and_parameters_must_agree(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ResourceTemplate.of(weather, uri)


def test_variables_are_converted_to_what_the_function_takes() -> None:
    values = TEMPLATE.match("weather://Paris/3")
    assert values == {"city": "Paris", "days": "3"}
    assert TEMPLATE.signature.bind(dict(values)) == {"city": "Paris", "days": 3}


def test_a_variable_that_does_not_convert_is_complained_about() -> None:
    with pytest.raises(InvalidArguments, match="days: "):
        TEMPLATE.signature.bind({"city": "Paris", "days": "soon"})


def test_a_query_parameter_that_is_absent_has_its_default() -> None:
    template = ResourceTemplate.of(weather, "weather://{city}{?days}")
    values = template.match("weather://Paris")
    assert values is not None
    assert template.signature.bind(dict(values)) == {"city": "Paris", "days": 1}


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("x", {"mimeType": "text/plain", "text": "x"}),
        ("", {"mimeType": "text/plain", "text": ""}),
        ("a\udc80", {"mimeType": "text/plain", "text": "a?"}),
        (b"\xff\xfe", {"mimeType": "application/octet-stream", "blob": "//4="}),
        (bytearray(b"\xff\xfe"), {"mimeType": "application/octet-stream", "blob": "//4="}),
        ({"a": [1]}, {"mimeType": "application/json", "text": '{"a":[1]}'}),
        ([], {"mimeType": "application/json", "text": "[]"}),
        (["a"], {"mimeType": "application/json", "text": '["a"]'}),
        (3, {"mimeType": "application/json", "text": "3"}),
        (Config(debug=True), {"mimeType": "application/json", "text": '{"debug":true}'}),
    ],
)
def test_a_value_becomes_text_blob_or_json(value: Any, content: dict[str, Any], version: str) -> None:
    result = contents("a:b", None, value, version)
    assert result == {"contents": [{"uri": "a:b", **content}]}
    accept("resources/read", version, result)


@pytest.mark.parametrize("value", ["x", b"x", {"x": 1}])
def test_the_declared_type_is_the_type(value: Any) -> None:
    assert contents("a:b", "image/png", value, NEW)["contents"][0]["mimeType"] == "image/png"


TEXT = TextResourceContents("a:c", "x", "text/plain", {"m": 1})
BLOB = BlobResourceContents.of("a:d", b"x", "image/png")


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize(
    ("value", "uris"),
    [
        (TEXT, ["a:c"]),
        ([TEXT, BLOB], ["a:c", "a:d"]),
        (ReadResourceResult([TEXT, BLOB], {"m": 1}), ["a:c", "a:d"]),
        (mcp_types.TextResourceContents(uri="a:c", text="x"), ["a:c"]),
        (mcp_types.ReadResourceResult(contents=[mcp_types.BlobResourceContents(uri="a:d", blob="eA==")]), ["a:d"]),
    ],
)
def test_contents_are_sent_as_they_are(value: Any, uris: list[str], version: str) -> None:
    result = contents("a:b", "x/y", value, version)
    assert [item["uri"] for item in result["contents"]] == uris
    accept("resources/read", version, result)


def test_contents_have_no_meta_for_a_client_that_knows_none() -> None:
    assert "_meta" not in contents("a:b", None, TEXT, V2025_03_26)["contents"][0]
    assert contents("a:b", None, TEXT, NEW)["contents"][0]["_meta"] == {"m": 1}


def test_none_says_that_there_is_no_such_resource() -> None:
    with pytest.raises(ResourceNotFoundError) as caught:
        contents("a:b", None, None, NEW)
    assert caught.value.data == {"uri": "a:b"}


def test_what_json_cannot_say_is_our_error() -> None:
    with pytest.raises(LocalProtocolError):
        contents("a:b", None, {"a": 10**5000}, NEW)


@pytest.mark.parametrize("value", ["\ud800", {"a": "\ud800"}, TextResourceContents("a:b", "\ud800")])
def test_text_that_utf_8_cannot_carry_is_cleaned_everywhere(value: Any) -> None:
    assert "?" in contents("a:b", None, value, NEW)["contents"][0]["text"]


def test_a_value_with_nan_is_still_json() -> None:
    text = contents("a:b", None, {"a": float("nan")}, NEW)["contents"][0]["text"]
    assert json.loads(text) == {"a": None}
