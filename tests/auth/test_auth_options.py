"""Authorization from settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.auth.issuer import ISSUER, RESOURCE, Issuer, pem, rsa_key
from trio_mcp.auth.auth_options import AuthOptions, bearer_auth
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.jwt_verifier import JWTVerifier
from trio_mcp.auth.multi_auth import MultiAuth
from trio_mcp.auth.static_tokens import StaticTokenVerifier

ASKING = {"introspection_client_id": "rs", "introspection_client_secret": "s"}


def test_nothing_set_is_no_authorization() -> None:
    assert bearer_auth(AuthOptions()) is None


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"issuer": [ISSUER]}, JWTVerifier),
        ({"issuer": [ISSUER, "https://b.example"]}, MultiAuth),
        ({"issuer": [ISSUER], "introspection_url": f"{ISSUER}/i", **ASKING}, MultiAuth),
    ],
)
def test_each_setting_turns_its_verifier_on(options: dict[str, Any], kind: type) -> None:
    chosen = AuthOptions(**{"resource": RESOURCE, **options})
    found = bearer_auth(chosen)
    assert found is not None
    assert isinstance(found.verifier, kind)
    assert found.authorization_servers == tuple(chosen.issuer)
    assert found.resource == RESOURCE


def test_one_variable_is_enough_on_loopback() -> None:
    found = bearer_auth(AuthOptions(issuer=[ISSUER]))
    assert found is not None
    found.bind("http://127.0.0.1:8000/mcp")
    assert found.metadata is not None


def test_files_are_read(tmp_path: Path) -> None:
    key, tokens = tmp_path / "key.pem", tmp_path / "tokens"
    key.write_bytes(pem(rsa_key("k1")))
    tokens.write_text("ci-token ci mcp:read\n")
    tokens.chmod(0o600)
    found = bearer_auth(AuthOptions(issuer=[ISSUER], public_key=key, tokens=tokens))
    assert found is not None
    assert found.ready
    alone = bearer_auth(AuthOptions(tokens=tokens))
    assert alone is not None
    assert isinstance(alone.verifier, StaticTokenVerifier)


async def test_settings_reach_the_verifier() -> None:
    issuer = Issuer()
    options = AuthOptions(issuer=[ISSUER], jwks_uri=f"{ISSUER}/keys", audience=["app"], audience_claim="client_id")
    found = bearer_auth(options, fetch=issuer.fetch)
    assert found is not None
    assert isinstance(found.verifier, JWTVerifier)
    assert found.verifier._rules.audience == ("app",)
    assert found.verifier._rules.audience_claim == "client_id"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"required_scopes": ["a"]},
            "TRIO_MCP_AUTH_REQUIRED_SCOPES is set, but nothing verifies tokens: set TRIO_MCP_AUTH_ISSUER",
        ),
        ({"audience": ["a"]}, "TRIO_MCP_AUTH_AUDIENCE is set"),
        ({"resource": RESOURCE}, "TRIO_MCP_AUTH_RESOURCE is set"),
        ({"introspection_url": f"{ISSUER}/i", **ASKING}, "TRIO_MCP_AUTH_INTROSPECTION_URL needs TRIO_MCP_AUTH_ISSUER"),
        ({"introspection_url": f"{ISSUER}/i", "issuer": [ISSUER]}, "TRIO_MCP_AUTH_INTROSPECTION_CLIENT_ID"),
        ({"issuer": [ISSUER, "https://b.example"], "jwks_uri": f"{ISSUER}/keys"}, "one TRIO_MCP_AUTH_ISSUER"),
        ({"issuer": [ISSUER], "public_key": Path("/")}, "TRIO_MCP_AUTH_PUBLIC_KEY: / cannot be read: Is a directory"),
        (
            {"issuer": [ISSUER], "public_key": Path("/nonexistent/key.pem")},
            "TRIO_MCP_AUTH_PUBLIC_KEY: there is no file /nonexistent/key.pem",
        ),
        ({"issuer": [ISSUER], "required_scopes": ["offline_access"]}, "offline_access"),
        ({"issuer": ["http://login.example.com"]}, "https"),
        ({"issuer": [ISSUER], "algorithms": ["HS256"]}, "HS256"),
    ],
)
def test_what_cannot_work_names_the_setting(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=complaint):
        bearer_auth(replace(AuthOptions(), **options))
