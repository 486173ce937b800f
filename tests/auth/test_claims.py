"""Parameters of handlers that are filled from the token."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp.auth.claims import Claim, ClaimMissing
from trio_mcp.auth.tokens import AccessToken

TOKEN = AccessToken(
    "c", claims={"email": "a@b", "realm_access": {"roles": ["hr"]}, "https://x/tenant": 7, "none": None}
)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        (Claim("email"), "a@b"),
        (Claim("realm_access", "roles"), ["hr"]),
        (Claim("https://x/tenant"), 7),
        (Claim("none"), None),
    ],
)
def test_a_claim_has_the_value_of_the_token(claim: Claim, value: object) -> None:
    assert claim.value(TOKEN) == value


@pytest.mark.parametrize(
    "claim", [Claim("missing"), Claim("email", "x"), Claim("realm_access", "x"), Claim("none", "x")]
)
def test_a_claim_that_is_not_there_is_named_and_no_value_is(claim: Claim) -> None:
    with pytest.raises(ClaimMissing, match=rf"no claim {'.'.join(claim.path)}$"):
        claim.value(TOKEN)
    with pytest.raises(ClaimMissing):
        claim.value(None)


@pytest.mark.parametrize("path", [(), ("",), (1,), ("a", "")])
def test_a_claim_needs_a_name(path: Any) -> None:
    with pytest.raises(ValueError, match="needs the name"):
        Claim(*path)


def test_equal_claims_are_one() -> None:
    assert len({Claim("a", "b"), Claim("a", "b"), Claim("a")}) == 2
    assert repr(Claim("a", "b")) == "Claim('a', 'b')"
