"""What an entry of an allow-list matches, and which entries match nothing."""

from __future__ import annotations

import re

import pytest

from tests.transports.http.harness import serving
from trio_mcp import MCPServer
from trio_mcp.transports.http.allowed import Hosts, Origins, is_address


@pytest.mark.parametrize(
    ("entry", "served", "refused"),
    [
        ("x.com", ["x.com", "x.com:80", "x.com:8000"], ["y.x.com", "xx.com", "x.com.evil", "", "x.com:"]),
        ("X.com", ["x.com"], ["y.com"]),
        ("x.com:8000", ["x.com:8000"], ["x.com", "x.com:80"]),
        ("x.com:*", ["x.com", "x.com:1", "x.com:65535"], ["x.com.evil:1", "x.com:*", "x.com:80@evil"]),
        ("*.x.com", ["a.x.com", "a.b.x.com", "a.x.com:99"], ["x.com", "ax.com", ".x.com", "a.x.com.evil"]),
        ("*.x.com:8000", ["a.x.com:8000"], ["a.x.com", "a.x.com:80"]),
        ("*.x.com:*", ["a.x.com", "a.x.com:80"], ["x.com:80"]),
        ("[::1]", ["[::1]", "[::1]:80"], ["[::2]", "::1"]),
        ("10.0.0.1", ["10.0.0.1", "10.0.0.1:80"], ["10.0.0.10"]),
        ("my_svc", ["my_svc", "my_svc:80"], ["mysvc"]),
        ("*", ["anything", "", "a b"], []),
    ],
)
def test_hosts(entry: str, served: list[str], refused: list[str]) -> None:
    hosts = Hosts([entry])
    assert [host for host in served if host not in hosts] == []
    assert [host for host in refused if host in hosts] == []


@pytest.mark.parametrize(
    ("entry", "served", "refused"),
    [
        ("https://x.com", ["https://x.com"], ["http://x.com", "https://x.com:8443", "https://y.x.com", "null", ""]),
        ("https://x.com:443", ["https://x.com"], ["https://x.com:444"]),
        (
            "http://localhost:*",
            ["http://localhost", "http://localhost:6274"],
            ["https://localhost:1", "http://localhost.evil:1"],
        ),
        ("https://*.x.com", ["https://a.x.com"], ["https://x.com", "https://a.x.com:1", "https://ax.com"]),
        ("https://*.x.com:*", ["https://a.x.com:1", "https://a.x.com"], ["http://a.x.com"]),
        ("http://[::1]:*", ["http://[::1]:1"], ["http://[::2]:1"]),
        ("vscode-webview://abc", ["vscode-webview://abc"], ["vscode-webview://abd"]),
        ("HTTP://LocalHost:3000", ["http://localhost:3000"], ["http://localhost"]),
        ("null", ["null"], ["http://null"]),
        ("*", ["http://x", "null"], []),
    ],
)
def test_origins(entry: str, served: list[str], refused: list[str]) -> None:
    origins = Origins([entry])
    assert [origin for origin in served if origin not in origins] == []
    assert [origin for origin in refused if origin in origins] == []


@pytest.mark.parametrize(
    ("argument", "given"),
    [("allowed_hosts", "x.com"), ("allowed_origins", "https://x.com"), ("forwarded_allow", "10.0.0.0/8")],
)
def test_a_text_in_place_of_a_list_is_refused_with_the_list(argument: str, given: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"write {argument}=['{given}']")):
        MCPServer("test").http_app(**{argument: given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "better"),
    [
        ("http://x.com", "'x.com'"),
        ("https://x.com:8000/mcp", "'x.com:8000'"),
        ("x.com/", "'x.com'"),
        ("::1", "'[::1]'"),
        ("[0:0:0:0:0:0:0:1]", "'[::1]'"),
        ("bücher.example", "'xn--bcher-kva.example'"),
        ("*x.com", "'*.example.com'"),
        ("x.*", "'*.example.com'"),
        ("*:8000", "'*'"),
        ("x.com:99999", "'mcp.example.com:8000'"),
        ("x.com:0", "'mcp.example.com:8000'"),
        ("x com", "'mcp.example.com'"),
        ("", "'mcp.example.com'"),
    ],
)
def test_a_host_that_nothing_can_match_is_refused_with_the_form_to_write(entry: str, better: str) -> None:
    with pytest.raises(ValueError, match="can match no Host header") as complaint:
        Hosts([entry])
    assert better in str(complaint.value)


@pytest.mark.parametrize(
    ("entry", "better"),
    [
        ("https://x.com/", "'https://x.com'"),
        ("https://x.com/app?a#b", "'https://x.com'"),
        ("x.com", "'https://x.com'"),
        ("localhost:3000", "'https://localhost:3000'"),
        ("https://user@x.com", "'https://x.com'"),
        ("https://bücher.example", "'https://xn--bcher-kva.example'"),
        ("http://*", "'*'"),
        ("*.x.com", "'https://*.x.com'"),
        ("file:///tmp", "'*'"),
    ],
)
def test_an_origin_that_nothing_can_match_is_refused_with_the_form_to_write(entry: str, better: str) -> None:
    with pytest.raises(ValueError, match="can match no Origin header") as complaint:
        Origins([entry])
    assert better in str(complaint.value)


@pytest.mark.parametrize("options", [{"allowed_hosts": ["http://x.com"]}, {"allowed_origins": ["https://x.com/"]}])
def test_an_app_with_a_rule_that_matches_nothing_is_not_made(options: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"write '(https://)?x\.com'"):
        MCPServer("test").http_app(**options)  # type: ignore[arg-type]


async def test_wildcards_are_asked_of_requests() -> None:
    options = {"allowed_hosts": ["*.x.com"], "allowed_origins": ["http://localhost:*"]}
    async with serving(MCPServer("test"), **options) as wire:
        assert await wire.initialize(headers={"host": "a.x.com:80", "origin": "http://localhost:6274"}).head() == 200
        assert await wire.initialize(headers={"host": "x.com"}).head() == 421
        assert await wire.initialize(headers={"host": "a.x.com", "origin": "http://evil.example"}).head() == 403
        assert await wire.initialize(headers={"host": "a.x.com", "origin": "http://a.x.com"}).head() == 200


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("10.1.2.3", True),
        ("10.1.2.3:9464", True),
        ("[fd00::1]:9464", True),
        ("[::1]", True),
        ("localhost", False),
        ("10.1.2.3.nip.io", False),
        ("10.1.2.3:x", False),
        ("", False),
        ("1", False),
    ],
)
def test_an_address_is_no_name(host: str, is_one: bool) -> None:
    assert is_address(host) is is_one
