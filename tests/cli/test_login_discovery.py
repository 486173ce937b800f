"""Where to log in, read from the metadata of a server and of its authorization server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from trio_mcp.auth.challenge_reader import BearerChallenge
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.resource import covers
from trio_mcp.cli.login.discovery import (
    AuthorizationServer,
    LoginError,
    ProtectedResource,
    places_of_metadata,
    read_authorization_server,
    read_protected_resource,
    scopes_to_ask_for,
)
from trio_mcp.cli.login.flow import find

URL = "https://mcp.example.com/mcp"
ISSUER = "https://login.example.com"
ROOT = "https://mcp.example.com/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("named", "first"),
    [
        (None, f"{ROOT}/mcp"),
        ("", f"{ROOT}/mcp"),
        (f"{ROOT}/elsewhere", f"{ROOT}/elsewhere"),
        ("https://evil.example.com/.well-known/oauth-protected-resource", f"{ROOT}/mcp"),
        ("http://mcp.example.com/.well-known/oauth-protected-resource", f"{ROOT}/mcp"),
        ("https://mcp.example.com:444/x", f"{ROOT}/mcp"),
    ],
)
def test_what_a_challenge_names_counts_on_the_servers_own_origin(named: str | None, first: str) -> None:
    challenge = None if named is None else BearerChallenge(resource_metadata=named)
    places = places_of_metadata(URL, challenge)
    assert places[0] == first
    assert places[-2:] == (f"{ROOT}/mcp", ROOT)


@pytest.mark.parametrize(
    ("resource", "url", "covered"),
    [
        (URL, URL, True),
        (URL, URL + "/", True),
        (URL + "/", URL, True),
        (URL, URL + "?a=b", True),
        ("HTTPS://MCP.example.com/mcp", URL, True),
        ("https://mcp.example.com", URL, True),
        ("https://mcp.example.com/", URL, True),
        (URL, "https://mcp.example.com", False),
        (URL, URL + "2", False),
        (URL, URL + "/a", True),
        ("https://mcp.example.com", "https://mcp.example.com.evil.com/mcp", False),
        ("https://mcp.example.com", "http://mcp.example.com/mcp", False),
        (URL, "https://mcp.example.com/MCP", False),
    ],
)
def test_tokens_are_for_the_resource_and_what_is_below_it(resource: str, url: str, covered: bool) -> None:
    assert covers(resource, url) is covered


def resource_document(**changes: Any) -> bytes:
    return json.dumps(
        {"resource": URL, "authorization_servers": [ISSUER], "scopes_supported": ["a"], **changes}
    ).encode()


def test_a_resource_names_issuers_and_scopes() -> None:
    found = read_protected_resource(resource_document(), URL)
    assert found == ProtectedResource(URL, (ISSUER,), ("a",))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[]", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (resource_document(resource="https://other.example.com/mcp"), "'https://other.example.com/mcp', not of"),
        (resource_document(resource=1), "names no resource"),
        (resource_document(authorization_servers=[]), "no authorization server"),
        (resource_document(authorization_servers="x"), "no authorization server"),
    ],
)
def test_metadata_of_another_resource_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(LoginError, match=told):
        read_protected_resource(body, URL)


def test_of_several_issuers_one_can_be_chosen() -> None:
    resource = ProtectedResource(URL, ("https://a", "https://b"))
    assert (resource.issuer(None), resource.issuer("https://b")) == ("https://a", "https://b")
    with pytest.raises(LoginError, match="https://a, https://b"):
        resource.issuer("https://c")


def issuer_document(**changes: Any) -> bytes:
    document = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/auth",
        "token_endpoint": f"{ISSUER}/token",
        "code_challenge_methods_supported": ["S256"],
        **changes,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_an_authorization_server_is_read() -> None:
    found = read_authorization_server(
        issuer_document(
            authorization_response_iss_parameter_supported=True, client_id_metadata_document_supported="true"
        ),
        ISSUER,
    )
    assert found == AuthorizationServer(
        ISSUER,
        token_endpoint=f"{ISSUER}/token",
        authorization_endpoint=f"{ISSUER}/auth",
        challenge_methods=("S256",),
        names_itself=True,
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"null", "not a JSON object"),
        (issuer_document(issuer=ISSUER + "/"), "they must be equal"),
        (issuer_document(issuer=None), "they must be equal"),
        (issuer_document(token_endpoint=None), "has no token_endpoint"),
        (issuer_document(token_endpoint="http://login.example.com/token"), "not https"),
        (issuer_document(authorization_endpoint="javascript:alert(1)"), "not https"),
        (issuer_document(registration_endpoint="https://me@login.example.com/"), "user or password"),
    ],
)
def test_metadata_of_another_issuer_and_endpoints_without_tls_are_refused(body: bytes, told: str) -> None:
    with pytest.raises(LoginError, match=told):
        read_authorization_server(body, ISSUER)


@pytest.mark.parametrize(
    ("given", "challenged", "supported", "known", "asked"),
    [
        (None, ("a",), ("b",), (), ("a",)),
        (None, (), ("b",), (), ("b",)),
        (None, (), (), (), ()),
        (None, ("a",), (), ("offline_access",), ("a", "offline_access")),
        ("c d,e c", ("a",), ("b",), ("offline_access",), ("c", "d", "e")),
        ("", ("a",), (), (), ()),
    ],
)
def test_scopes(given: str | None, challenged: Any, supported: Any, known: Any, asked: tuple[str, ...]) -> None:
    challenge = BearerChallenge(scopes=challenged)
    resource = ProtectedResource(URL, (ISSUER,), supported)
    server = AuthorizationServer(ISSUER, f"{ISSUER}/token", scopes=known)
    assert scopes_to_ask_for(given, challenge, resource, server) == asked


@pytest.mark.parametrize("status", [200, 400])
async def test_a_server_that_asks_for_no_token_needs_no_login(status: int) -> None:
    async def fetch(method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        return Response(status if method == "POST" else 404)

    with pytest.raises(LoginError, match=r"^https://a\.example/mcp asks for no token: use it without a login$"):
        await find(fetch, "https://a.example/mcp")
