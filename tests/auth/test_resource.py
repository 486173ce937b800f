"""The URL of the server: what it may be, which audiences mean it, where its metadata is."""

from __future__ import annotations

import pytest

from tests.auth.issuer import RESOURCE
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.resource import check_audiences, check_url, matching_audience, metadata_paths, metadata_url

OTHER = "https://other.example.com/mcp"


@pytest.mark.requirement("auth-17")
@pytest.mark.parametrize(
    "audience",
    [
        RESOURCE,
        RESOURCE + "/",
        "HTTPS://MCP.EXAMPLE.COM/mcp",
        "https://mcp.Example.com/mcp/",
        [RESOURCE],
        [OTHER, RESOURCE + "/"],
    ],
)
def test_an_audience_that_means_the_server(audience: object) -> None:
    assert matching_audience(audience, [OTHER + "x", RESOURCE]) == RESOURCE


@pytest.mark.requirement("auth-16")
@pytest.mark.parametrize(
    "audience",
    [
        OTHER,
        RESOURCE + "2",
        RESOURCE + "//",
        RESOURCE + "/sub",
        RESOURCE + "?a=1",
        RESOURCE[:-1],
        "https://mcp.example.com",
        "https://mcp.example.com/MCP",
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://mcp.example.com@evil.example/mcp",
        "desktop",
        "",
        "/",
        [],
        [OTHER],
        [RESOURCE, 1],
        [[RESOURCE]],
        {},
        {RESOURCE: 1},
        {"0": RESOURCE},
        None,
        True,
        1,
    ],
)
def test_an_audience_that_means_another(audience: object) -> None:
    assert matching_audience(audience, [RESOURCE]) is None


def test_what_is_no_url_is_compared_as_it_is() -> None:
    assert matching_audience("Client", ["Client"]) == "Client"
    assert matching_audience("client", ["Client"]) is None
    assert matching_audience("Client/", ["Client"]) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/mcp",
        "https://a.example",
        "https://A.example:8443/x/?t=1",
        "http://127.0.0.1:80/mcp",
        "http://[::1]/m",
        "http://localhost/m",
    ],
)
def test_a_url_stays_byte_for_byte(url: str) -> None:
    assert check_url(url, "resource") == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "absolute URL"),
        ("mcp.example.com/mcp", "absolute URL"),
        ("/mcp", "absolute URL"),
        ("ftp://a.example", "absolute URL"),
        ("https://", "absolute URL"),
        ("https://a.example/a b", "absolute URL"),
        ('https://a.example/"', "absolute URL"),
        ("https://a.example/\r\nX: y", "absolute URL"),
        ("https://a.example:x/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("http://a.example/mcp", "must begin with https"),
        ("http://127.0.0.1.evil.example/mcp", "must begin with https"),
        ("https://u:p@a.example/mcp", "user"),
        ("https://a.example/mcp#x", "fragment"),
    ],
)
def test_a_url_that_cannot_name_the_server_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=f"^resource .*{complaint}"):
        check_url(url, "resource")


@pytest.mark.parametrize(
    ("resource", "url", "paths"),
    [
        ("https://h/mcp", "https://h/.well-known/oauth-protected-resource/mcp", {"", "/", "/mcp", "/mcp/"}),
        ("https://h/mcp/", "https://h/.well-known/oauth-protected-resource/mcp/", {"", "/", "/mcp", "/mcp/"}),
        ("https://h", "https://h/.well-known/oauth-protected-resource", {"", "/"}),
        ("https://h/", "https://h/.well-known/oauth-protected-resource", {"", "/"}),
        ("https://H:1/a/mcp", "https://H:1/.well-known/oauth-protected-resource/a/mcp", {"", "/", "/a/mcp", "/a/mcp/"}),
        ("https://h/mcp?t=1", "https://h/.well-known/oauth-protected-resource/mcp?t=1", {"", "/", "/mcp", "/mcp/"}),
        ("https://h/a%20b", "https://h/.well-known/oauth-protected-resource/a%20b", {"", "/", "/a b", "/a b/"}),
    ],
)
def test_where_the_metadata_is(resource: str, url: str, paths: set[str]) -> None:
    assert metadata_url(resource) == url
    assert metadata_paths(resource) == {f"/.well-known/oauth-protected-resource{path}" for path in paths}


@pytest.mark.parametrize("audience", ["", [], [""], ["a", ""]])
def test_an_empty_audience_is_refused(audience: str | list[str]) -> None:
    with pytest.raises(AuthConfigurationError, match="audience is empty"):
        check_audiences(audience)
