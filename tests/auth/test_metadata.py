"""Protected Resource Metadata: the document, and the answers to all kinds of requests for it."""

from __future__ import annotations

import json

import pytest

from tests.auth.issuer import ISSUER, RESOURCE
from trio_mcp.auth.metadata import ResourceMetadata

METADATA = ResourceMetadata(RESOURCE, [ISSUER], scopes_supported=["mcp:read"], resource_name="Files")


@pytest.mark.requirement("auth-60")
def test_the_document_says_who_issues_tokens_for_which_resource() -> None:
    assert json.loads(METADATA.document) == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp:read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Files",
    }


def test_empty_members_are_left_out() -> None:
    assert set(json.loads(ResourceMetadata(RESOURCE, [ISSUER]).document)) == {
        "resource",
        "authorization_servers",
        "bearer_methods_supported",
    }


@pytest.mark.requirement("auth-62")
def test_the_resource_is_the_configured_string() -> None:
    resource = "https://MCP.example.com/mcp/"
    assert json.loads(ResourceMetadata(resource, [ISSUER]).document)["resource"] == resource


@pytest.mark.requirement("auth-60")
def test_get_and_head_have_the_same_headers() -> None:
    whole, head = METADATA.answer("GET"), METADATA.answer("HEAD")
    assert (whole.status, whole.body) == (200, METADATA.document)
    assert (head.status, head.headers, head.body) == (200, whole.headers, b"")
    assert dict(whole.headers) == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(METADATA.document),
        b"cache-control": b"public, max-age=3600",
        b"access-control-allow-origin": b"*",
    }


@pytest.mark.requirement("auth-60")
@pytest.mark.parametrize(
    ("asked", "echoed"),
    [
        (b"", b"MCP-Protocol-Version"),
        (b"mcp-protocol-version, x-custom", b"mcp-protocol-version, x-custom"),
        (b"x\r\nSet-Cookie: a=b", b"MCP-Protocol-Version"),
        (b"x;y", b"MCP-Protocol-Version"),
    ],
)
def test_browsers_of_any_origin_may_read_it(asked: bytes, echoed: bytes) -> None:
    answer = METADATA.answer("OPTIONS", asked)
    assert (answer.status, answer.body) == (204, b"")
    headers = dict(answer.headers)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"access-control-allow-headers"] == echoed
    assert b"access-control-allow-credentials" not in headers


@pytest.mark.requirement("auth-60")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get", ""])
def test_other_methods_are_405(method: str) -> None:
    answer = METADATA.answer(method)
    assert answer.status == 405
    assert dict(answer.headers)[b"allow"] == b"GET, HEAD, OPTIONS"
