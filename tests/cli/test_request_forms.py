import pytest

from trio_mcp.cli.request_forms import Legacy, Modern


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("add", "add"),
        ("two words", "two words"),
        ("größe", "=?base64?Z3LDtsOfZQ==?="),
        (" padded", "=?base64?IHBhZGRlZA==?="),
        ("=?base64?", "=?base64?PT9iYXNlNjQ/?="),
        ("line\nbreak", "=?base64?bGluZQpicmVhaw==?="),
    ],
)
def test_a_name_no_header_can_carry_is_sent_as_base64(name: str, value: str) -> None:
    assert ("Mcp-Name", value) in Modern().headers("tools/call", {"name": name}, {})


def test_a_resource_is_named_by_its_uri() -> None:
    assert ("Mcp-Name", "a://b") in Modern().headers("resources/read", {"uri": "a://b"}, {})


def test_properties_that_ask_for_a_header_get_one() -> None:
    schema = {
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "absent": {"type": "string", "x-mcp-header": "Absent"},
            "where": {"type": "object", "properties": {"zip": {"type": "integer", "x-mcp-header": "Zip"}}},
            "plain": {"type": "string"},
        }
    }
    arguments = {"region": "eu", "dry": True, "where": {"zip": 10115}, "plain": "x"}
    headers = Modern().headers("tools/call", {"name": "t", "arguments": arguments}, schema)
    assert headers[3:] == [("Mcp-Param-Region", "eu"), ("Mcp-Param-Dry", "true"), ("Mcp-Param-Zip", "10115")]


def test_a_modern_request_keeps_the_meta_it_had() -> None:
    meta = Modern().params({"_meta": {"progressToken": 1}})["_meta"]
    assert meta["progressToken"] == 1
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}


def test_a_legacy_request_names_its_session_once_there_is_one() -> None:
    assert Legacy("2025-06-18", None).headers("ping", {}, {}) == [("MCP-Protocol-Version", "2025-06-18")]
    assert ("Mcp-Session-Id", "n.s") in Legacy("2025-06-18", "n.s").headers("ping", {}, {})
