"""The claims of a token: a table of what is accepted and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.auth.issuer import ISSUER, NOW, RESOURCE, claims
from trio_mcp.auth.claim_rules import ClaimRules
from trio_mcp.auth.reasons import Refusal
from trio_mcp.auth.tokens import AccessToken

RULES = ClaimRules(ISSUER, (RESOURCE,))
HUGE = json.loads("1e400")


def reason(described: dict[str, Any], rules: ClaimRules = RULES) -> Refusal | None:
    found = rules.judge(described, NOW)
    return found if isinstance(found, Refusal) else None


@pytest.mark.requirement("auth-16", "auth-17", "auth-18", "auth-19", "auth-20", "auth-21", "auth-24")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        # Row 16 and 17; more of them in test_resource.
        ({"aud": RESOURCE + "/"}, None),
        ({"aud": "HTTPS://MCP.EXAMPLE.COM/mcp"}, None),
        ({"aud": ["x", RESOURCE]}, None),
        ({"aud": "https://other.example.com/mcp"}, Refusal.AUDIENCE),
        ({"aud": RESOURCE + "2"}, Refusal.AUDIENCE),
        ({"aud": RESOURCE[:-1]}, Refusal.AUDIENCE),
        ({"aud": "desktop"}, Refusal.AUDIENCE),
        ({"aud": ""}, Refusal.AUDIENCE),
        ({"aud": {RESOURCE: 1}}, Refusal.AUDIENCE),
        ({"aud": None}, Refusal.AUDIENCE),
        # Row 18.
        ({"iss": "https://other.example.com"}, Refusal.ISSUER),
        ({"iss": ISSUER + "/"}, Refusal.ISSUER),
        ({"iss": ISSUER.upper()}, Refusal.ISSUER),
        ({"iss": None}, Refusal.ISSUER),
        ({"iss": [ISSUER]}, Refusal.ISSUER),
        # Row 19.
        ({"exp": NOW - 31}, Refusal.EXPIRED),
        ({"exp": NOW - 30}, Refusal.EXPIRED),
        ({"exp": NOW - 29}, None),
        ({"exp": NOW + 0.5}, None),
        ({"exp": None}, Refusal.CLAIMS),
        ({"exp": "soon"}, Refusal.CLAIMS),
        ({"exp": "9999999999"}, Refusal.CLAIMS),
        ({"exp": True}, Refusal.CLAIMS),
        ({"exp": HUGE}, Refusal.CLAIMS),
        ({"exp": [NOW]}, Refusal.CLAIMS),
        ({"exp": -1}, Refusal.EXPIRED),
        ({"exp": 0}, Refusal.EXPIRED),
        ({"exp": 10**400}, Refusal.CLAIMS),
        ({"nbf": -HUGE}, Refusal.CLAIMS),
        ({"exp": 2**53}, None),
        # Row 20.
        ({"nbf": NOW + 31}, Refusal.NOT_YET_VALID),
        ({"nbf": NOW + 29}, None),
        ({"nbf": "0"}, Refusal.CLAIMS),
        ({"nbf": False}, Refusal.CLAIMS),
        ({"iat": NOW + 31}, Refusal.NOT_YET_VALID),
        ({"iat": NOW + 29}, None),
        ({"iat": None}, None),
        ({"iat": "now"}, Refusal.CLAIMS),
        # Row 21.
        ({"sub": None}, None),
        ({"sub": ""}, Refusal.IDENTITY),
        ({"sub": 1}, Refusal.CLAIMS),
        ({"sub": ["ann"]}, Refusal.CLAIMS),
        ({"sub": None, "client_id": None}, Refusal.IDENTITY),
        ({"sub": None, "client_id": ""}, Refusal.IDENTITY),
        ({"client_id": None}, None),
        ({"client_id": 1}, Refusal.CLAIMS),
        ({"client_id": None, "azp": "desktop"}, None),
        # Row 24.
        ({"cnf": {"jkt": "x"}}, Refusal.SENDER_CONSTRAINED),
        ({"cnf": {"x5t#S256": "x"}}, Refusal.SENDER_CONSTRAINED),
        ({"cnf": {}}, Refusal.SENDER_CONSTRAINED),
        # Scopes of the wrong form.
        ({"scope": 1}, Refusal.CLAIMS),
        ({"scope": ["a", 1]}, Refusal.CLAIMS),
        ({"scope": None, "scp": ["mcp:read"]}, None),
    ],
)
def test_a_claim_decides(changes: dict[str, Any], why: Refusal | None) -> None:
    assert reason(claims(**changes)) is why


@pytest.mark.requirement("auth-21")
def test_a_machine_has_a_client_and_no_subject() -> None:
    assert RULES.judge(claims(sub=None), NOW) == AccessToken(
        "desktop", ["mcp:read"], "", NOW + 300, RESOURCE, None, claims(sub=None)
    )


def test_the_first_claim_that_is_there_names_the_client() -> None:
    found = RULES.judge(claims(client_id=None, cid="okta", appid="entra"), NOW)
    assert isinstance(found, AccessToken)
    assert found.client_id == "okta"


def test_cognito_has_no_audience_but_the_client() -> None:
    cognito = replace(RULES, audience=("app",), audience_claim="client_id", required_claims={"token_use": "access"})
    described = claims(aud=None, client_id="app", token_use="access")
    assert reason(described, cognito) is None
    assert reason({**described, "client_id": "other"}, cognito) is Refusal.AUDIENCE
    assert reason({**described, "token_use": "id"}, cognito) is Refusal.TYPE
    assert reason({**described, "token_use": None}, cognito) is Refusal.TYPE


@pytest.mark.requirement("auth-67")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": None}, None),
        ({"exp": None}, None),
        ({"aud": None}, None),
        ({"iss": "https://other.example.com"}, Refusal.ISSUER),
        ({"aud": "other"}, Refusal.AUDIENCE),
        ({"aud": ""}, Refusal.AUDIENCE),
        ({"exp": NOW - 31}, Refusal.EXPIRED),
        ({"exp": "soon"}, Refusal.CLAIMS),
    ],
)
def test_what_may_be_left_out_is_judged_where_it_is_there(changes: dict[str, Any], why: Refusal | None) -> None:
    lenient = replace(RULES, issuer_optional=True, audience_optional=True, expiry_optional=True)
    assert reason(claims(**changes), lenient) is why


def test_without_an_audience_nothing_is_accepted() -> None:
    assert reason(claims(), replace(RULES, audience=())) is Refusal.AUDIENCE
