import json

import pytest

from trio_mcp.cli import output

ADD = {
    "name": "add",
    "description": "Add two numbers.\n\nNot three.",
    "inputSchema": {
        "properties": {
            "a": {"type": "integer"},
            "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 2},
            "c": {"type": ["string", "null"]},
            "d": {},
        },
        "required": ["a"],
    },
}


def test_a_catalog_off_a_terminal_is_one_line_for_each_entry(capsys: pytest.CaptureFixture[str]) -> None:
    long = {"uriTemplate": "greeting://{name}", "name": "g", "description": "word " * 100}
    output.print_listings({"tools": [ADD], "resources": [], "resourceTemplates": [long]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["Tools (1)", "  add  Add two numbers.", "Resources (0)", "Resource templates (1)"]
    assert lines[4:] == ["  greeting://{name}  " + ("word " * 100).strip()]


def test_parameters_are_shown_with_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_listings({"tools": [ADD]}, parameters=True)
    signature = "add(a: integer, b: integer | null = 2, c: string | null = null, d: any = null)"
    assert f"  {signature}  Add two numbers." in capsys.readouterr().out


def test_the_extensions_of_a_server_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_server({"name": "weather"}, None, ["2026-07-28"], ["com.example/a", "com.example/b\x1b"])
    assert capsys.readouterr().out.splitlines()[2] == "  adds    com.example/a, com.example/b\\x1b"


def test_a_server_is_introduced(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_server({"name": "weather", "version": "1", "title": "Weather"}, "Ask\n  it.", ["2026-07-28"])
    assert capsys.readouterr().out == "weather 1 - Weather\n  speaks  MCP 2026-07-28\n  says    Ask it.\n"


@pytest.mark.parametrize(
    ("result", "out"),
    [
        ({"content": [{"type": "text", "text": "one\ntwo"}], "structuredContent": {"a": 1}}, "one\ntwo\n"),
        ({"content": [], "structuredContent": {"a": 1}}, '{\n  "a": 1\n}\n'),
        ({"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]}, "[image image/png, 3 bytes]\n"),
        ({"content": [{"type": "resource", "resource": {"uri": "a://b", "text": "t"}}]}, "t\n"),
        ({"content": [{"type": "resource", "resource": {"uri": "a://b", "blob": "AA"}}]}, "[resource a://b]\n"),
        ({"content": [{"type": "resource_link", "uri": "a://b"}]}, "[resource a://b]\n"),
        ({"content": [{"type": "video"}]}, '{"type": "video"}\n'),
    ],
)
def test_a_result_is_its_text_else_its_structure(
    capsys: pytest.CaptureFixture[str], result: dict[str, object], out: str
) -> None:
    output.print_result(result)
    assert capsys.readouterr().out == out


def test_an_error_result_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_result({"isError": True, "content": [{"type": "text", "text": "too far"}]})
    assert capsys.readouterr() == ("", "too far\n")


@pytest.mark.parametrize(
    ("method", "params", "line"),
    [
        ("notifications/progress", {"progress": 1, "total": 3, "message": "step"}, "progress 1/3  step\n"),
        ("notifications/progress", {"progress": 0.5}, "progress 0.5\n"),
        ("notifications/message", {"level": "warning", "data": "hot"}, "warning  hot\n"),
        ("notifications/message", {"data": {"a": 1}}, 'info  {"a": 1}\n'),
        ("notifications/tools/list_changed", {}, ""),
    ],
)
def test_notifications_are_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], method: str, params: dict[str, object], line: str
) -> None:
    output.print_notification(method, params)
    assert capsys.readouterr() == ("", line)


def test_a_servers_words_do_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2Jgone\u202e"
    output.print_result({"content": [{"type": "text", "text": evil}]})
    output.print_notification("notifications/message", {"data": evil})
    output.print_listings({"tools": [{"name": evil, "description": evil}]})
    output.print_server({"name": evil}, evil, [evil])
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\u202e" not in printed.out + printed.err


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"ü": [1]})
    assert json.loads(capsys.readouterr().out) == {"ü": [1]}


SCHEMAS: list[tuple[dict[str, object], str]] = [
    ({"$ref": "#/$defs/Order"}, "Order"),
    ({"$ref": "#/$defs/Size"}, '"s" | "l"'),
    ({"$ref": "#/$defs/Gone"}, "Gone"),
    ({"enum": ["a", "b"], "type": "string"}, '"a" | "b"'),
    ({"const": 1}, "1"),
    ({"type": "array", "items": {"type": "string"}}, "string[]"),
    ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
    ({"type": "array"}, "array"),
    ({"type": "object", "title": "Order", "properties": {"a": {}}}, "Order"),
    ({"type": "object", "properties": {"a": {}, "b": {}}}, "{a, b}"),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
    ({"type": "object"}, "object"),
    ({"oneOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}]}, "Order | null"),
    ({"allOf": [{"$ref": "#/$defs/Size"}]}, '"s" | "l"'),
    ({"type": ["string", "null"]}, "string | null"),
    ({}, "any"),
    ({"enum": 5, "anyOf": 3, "type": 4}, "4"),
]


@pytest.mark.parametrize(("declared", "words"), SCHEMAS, ids=[words for _, words in SCHEMAS])
def test_a_type_is_shown_in_words(capsys: pytest.CaptureFixture[str], declared: dict[str, object], words: str) -> None:
    definitions = {"Order": {"type": "object", "properties": {"a": {}}}, "Size": {"enum": ["s", "l"]}}
    tool = {"name": "t", "inputSchema": {"properties": {"x": declared}, "required": ["x"], "$defs": definitions}}
    output.print_listings({"tools": [tool]}, parameters=True)
    assert capsys.readouterr().out.splitlines()[1].strip() == f"t(x: {words})"
