"""Where the metadata of an issuer may be, and what of it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.auth.issuer import ISSUER, KEYS_URL, Issuer
from trio_mcp.auth.discovery import discover, metadata_urls, read_issuer_metadata
from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import Response

OAUTH = f"{ISSUER}/.well-known/oauth-authorization-server"
OPENID = f"{ISSUER}/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (ISSUER, (OAUTH, OPENID)),
        (ISSUER + "/", (OAUTH, OPENID)),
        (
            ISSUER + "/tenant",
            (f"{OAUTH}/tenant", f"{OPENID}/tenant", f"{ISSUER}/tenant/.well-known/openid-configuration"),
        ),
        (
            ISSUER + "/a/b/",
            (f"{OAUTH}/a/b", f"{OPENID}/a/b", f"{ISSUER}/a/b/.well-known/openid-configuration"),
        ),
    ],
)
def test_the_places_are_tried_in_the_order_of_the_specification(issuer: str, urls: tuple[str, ...]) -> None:
    assert metadata_urls(issuer) == urls


async def test_the_first_place_that_answers_counts() -> None:
    issuer = Issuer()
    issuer.answers[OPENID] = issuer.answers.pop(OAUTH)
    assert (await discover(issuer.fetch, ISSUER)).jwks_uri == KEYS_URL
    assert issuer.asked == [OAUTH, OPENID]


async def test_the_error_names_every_place_and_its_answer() -> None:
    issuer = Issuer()
    issuer.answers[OAUTH] = Response(302, b"", {"location": KEYS_URL})
    with pytest.raises(FetchError, match=f"302 for {OAUTH}, 404 for {OPENID}"):
        await discover(issuer.fetch, ISSUER)


def read(document: Any, issuer: str = ISSUER) -> str:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_issuer_metadata(Response(200, body), issuer).jwks_uri


def test_keys_may_be_on_another_host_and_on_loopback_without_tls() -> None:
    assert read({"issuer": ISSUER, "jwks_uri": "https://keys.example/k"}) == "https://keys.example/k"
    local = "http://127.0.0.1:9"
    assert read({"issuer": local, "jwks_uri": f"{local}/k"}, local) == f"{local}/k"


@pytest.mark.parametrize("document", [b"", b"<html>", b"[]", {"issuer": ISSUER}, {"issuer": ISSUER, "jwks_uri": 1}])
def test_what_is_no_metadata_may_be_better_later(document: Any) -> None:
    with pytest.raises(FetchError, match=ISSUER):
        read(document)


@pytest.mark.requirement("auth-34")
@pytest.mark.parametrize(
    "document",
    [
        {"issuer": ISSUER + "/", "jwks_uri": KEYS_URL},
        {"issuer": ISSUER.upper(), "jwks_uri": KEYS_URL},
        {"issuer": [ISSUER], "jwks_uri": KEYS_URL},
        {"jwks_uri": KEYS_URL},
        {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": "https://a@b/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://[/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://x:y/keys"},
    ],
)
def test_what_contradicts_the_configuration_is_wrong(document: Any) -> None:
    with pytest.raises(AuthConfigurationError):
        read(document)
