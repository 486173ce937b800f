"""What a login sends to an authorization server, and what it makes of the answers."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trio_mcp.cli.login.discovery import AuthorizationServer, LoginError
from trio_mcp.cli.login.requests import (
    Client,
    Tokens,
    authorization_url,
    challenge_of,
    choose_registration,
    read_callback,
    read_registration,
    read_tokens,
    registration_document,
    token_request,
)

ISSUER = "https://login.example.com"
SERVER = AuthorizationServer(
    ISSUER,
    token_endpoint=f"{ISSUER}/token",
    authorization_endpoint=f"{ISSUER}/auth?realm=a",
    registration_endpoint=f"{ISSUER}/register",
    challenge_methods=("S256",),
    takes_metadata_urls=True,
)
DOCUMENT = "https://example.com/client.json"


@pytest.mark.parametrize(
    ("given", "server", "chosen"),
    [
        ({"client_id": "c", "metadata_url": DOCUMENT}, SERVER, Client("c")),
        ({"client_id": "c", "client_secret": "s"}, SERVER, Client("c", "s", "client_secret_basic")),
        (
            {"client_id": "c", "client_secret": "s"},
            replace(SERVER, token_auth_methods=("client_secret_post",)),
            Client("c", "s", "client_secret_post"),
        ),
        ({"metadata_url": DOCUMENT}, SERVER, Client(DOCUMENT)),
        ({"metadata_url": DOCUMENT}, replace(SERVER, takes_metadata_urls=False), None),
        ({}, SERVER, None),
    ],
)
def test_a_registered_client_comes_before_a_document_and_that_before_registering(
    given: dict[str, str], server: AuthorizationServer, chosen: Client | None
) -> None:
    arguments: Any = {"client_id": None, "client_secret": "", "metadata_url": None, **given}
    assert choose_registration(server, **arguments) == chosen


@pytest.mark.parametrize("metadata_url", [None, DOCUMENT])
def test_where_nothing_is_possible_a_client_has_to_be_registered_first(metadata_url: str | None) -> None:
    server = replace(SERVER, registration_endpoint="", takes_metadata_urls=False)
    with pytest.raises(LoginError, match="name it with --client-id"):
        choose_registration(server, client_id=None, client_secret="", metadata_url=metadata_url)


def test_a_registration_is_that_of_a_native_public_client() -> None:
    document = registration_document("http://127.0.0.1:5/callback", ["a", "b"])
    assert document["redirect_uris"] == ["http://127.0.0.1:5/callback"]
    assert (document["application_type"], document["token_endpoint_auth_method"]) == ("native", "none")
    assert document["scope"] == "a b"
    assert "scope" not in registration_document("http://127.0.0.1:5/callback", [])


@pytest.mark.parametrize(
    ("status", "answer", "client"),
    [
        (201, {"client_id": "c"}, Client("c")),
        (200, {"client_id": "c", "token_endpoint_auth_method": "none"}, Client("c")),
        (201, {"client_id": "c", "client_secret": "s"}, Client("c", "s", "client_secret_basic")),
        (
            201,
            {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post"},
            Client("c", "s", "client_secret_post"),
        ),
        (201, {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "none"}, Client("c")),
    ],
)
def test_a_registered_client(status: int, answer: dict[str, Any], client: Client) -> None:
    assert read_registration(status, json.dumps(answer).encode()) == client


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b"<html>", "it answered 403"),
        (400, b'{"error": "invalid_redirect_uri", "error_description": "no"}', "invalid_redirect_uri: no"),
        (201, b"{}", "it answered 201"),
        (201, b'{"client_id": 1}', "it answered 201"),
    ],
)
def test_a_refused_registration(status: int, body: bytes, told: str) -> None:
    with pytest.raises(LoginError, match=f"{told}.*--client-id"):
        read_registration(status, body)


def test_the_challenge_is_that_of_rfc_7636() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def asked(server: AuthorizationServer = SERVER, scopes: tuple[str, ...] = ("a", "b")) -> dict[str, list[str]]:
    url = authorization_url(
        server,
        Client("c"),
        redirect_uri="http://127.0.0.1:5/callback",
        resource="https://mcp.example.com/mcp",
        scopes=scopes,
        state="s",
        verifier="v",
    )
    assert url.startswith(f"{ISSUER}/auth?realm=a&")
    return parse_qs(urlsplit(url).query)


def test_the_login_page_gets_pkce_resource_and_state() -> None:
    assert asked() == {
        "realm": ["a"],
        "response_type": ["code"],
        "client_id": ["c"],
        "redirect_uri": ["http://127.0.0.1:5/callback"],
        "scope": ["a b"],
        "state": ["s"],
        "code_challenge": [challenge_of("v")],
        "code_challenge_method": ["S256"],
        "resource": ["https://mcp.example.com/mcp"],
    }
    assert asked(scopes=("offline_access",))["prompt"] == ["consent"]
    assert "scope" not in asked(scopes=())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"challenge_methods": ()}, "PKCE"),
        ({"challenge_methods": ("plain",)}, "PKCE"),
        ({"authorization_endpoint": ""}, "no page to log in at"),
    ],
)
def test_a_server_without_pkce_or_login_page_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LoginError, match=told):
        asked(replace(SERVER, **changes))


NAMED = replace(SERVER, names_itself=True)
ISS = "iss=https%3A%2F%2Flogin.example.com"


@pytest.mark.parametrize(
    ("query", "server", "code"),
    [
        ("code=c&state=s", SERVER, "c"),
        (f"code=c&state=s&{ISS}", SERVER, "c"),
        (f"code=c&state=s&{ISS}", NAMED, "c"),
        ("code=c&state=t", SERVER, None),
        ("code=c", SERVER, None),
        ("code=c&state=s&state=s", SERVER, None),
        ("error=access_denied", SERVER, None),
        ("", SERVER, None),
    ],
)
def test_only_an_answer_with_our_state_is_one(query: str, server: AuthorizationServer, code: str | None) -> None:
    assert read_callback(query, server, "s") == code


@pytest.mark.parametrize(
    ("query", "server", "told"),
    [
        ("code=c&state=s", NAMED, "does not say who gave it"),
        ("code=c&state=s&iss=https%3A%2F%2Fevil", SERVER, "from 'https://evil'"),
        ("code=c&state=s&iss=", SERVER, "from ''"),
        ("error=access_denied&state=s", SERVER, "refused: access_denied"),
        ("error=access_denied&error_description=no&state=s", SERVER, "refused: access_denied: no"),
        ("error=access_denied&state=s", NAMED, "does not say who gave it"),
        ("code=c&code=d&state=s", SERVER, "without a code"),
        ("state=s", SERVER, "without a code"),
    ],
)
def test_refusals_and_answers_of_others_end_the_login(query: str, server: AuthorizationServer, told: str) -> None:
    with pytest.raises(LoginError, match=told):
        read_callback(query, server, "s")


@pytest.mark.parametrize(
    ("client", "header", "form"),
    [
        (Client("c"), None, {"grant_type": ["x"], "client_id": ["c"]}),
        (Client("c:d", "s é", "client_secret_basic"), "c%3Ad:s+%C3%A9", {"grant_type": ["x"]}),
        (
            Client("c", "s", "client_secret_post"),
            None,
            {"grant_type": ["x"], "client_id": ["c"], "client_secret": ["s"]},
        ),
    ],
)
def test_the_client_shows_itself_as_it_is_registered(
    client: Client, header: str | None, form: dict[str, list[str]]
) -> None:
    headers, body = token_request(client, {"grant_type": "x", "resource": ""})
    expected = None if header is None else f"Basic {base64.b64encode(header.encode()).decode()}"
    assert dict(headers).get("Authorization") == expected
    assert parse_qs(body.decode()) == form


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({}, Tokens("t", scopes=("a",))),
        ({"scope": "b c"}, Tokens("t", scopes=("b", "c"))),
        ({"scope": ""}, Tokens("t")),
        ({"refresh_token": "r", "expires_in": 4}, Tokens("t", "r", 4.0, ("a",))),
        ({"expires_in": "4"}, Tokens("t", scopes=("a",))),
        ({"token_type": "bearer"}, Tokens("t", scopes=("a",))),
    ],
)
def test_tokens(answer: dict[str, Any], tokens: Tokens) -> None:
    body = json.dumps({"access_token": "t", "token_type": "Bearer", **answer}).encode()
    assert read_tokens(200, body, ["a"]) == tokens


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, b'{"error": "invalid_grant", "error_description": "used"}', "invalid_grant: used"),
        (500, b"<html>", "it answered 500"),
        (200, b"{}", "it answered 200"),
        (200, b'{"access_token": "t"}', "not a bearer token"),
        (200, b'{"access_token": "t", "token_type": "DPoP"}', "not a bearer token but 'DPoP'"),
    ],
)
def test_no_tokens(status: int, body: bytes, told: str) -> None:
    with pytest.raises(LoginError, match=told):
        read_tokens(status, body, [])


def test_secrets_do_not_show_in_texts() -> None:
    assert "hunter2" not in repr([Client("c", "hunter2"), Tokens("hunter2", "hunter2")])
