"""A verified token: whom it stands for, and what of it is shown."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import Any

import pytest

from trio_mcp.auth.principal import Principal
from trio_mcp.auth.tokens import AccessToken, access_token_set, get_access_token, principal_of

ISS = {"iss": "https://i"}


@pytest.mark.requirement("auth-7", "auth-21")
@pytest.mark.parametrize(
    ("token", "principal"),
    [
        (AccessToken("c", subject="u", claims=ISS), Principal("u", "https://i", client_id="c")),
        (AccessToken("c", claims=ISS), Principal("", "https://i", client_id="c")),
        (AccessToken("c", subject="c", claims=ISS), Principal("c", "https://i", client_id="c")),
        (AccessToken("", subject="u"), Principal("u")),
        (AccessToken("c"), Principal("", client_id="c")),
        (AccessToken("c", subject="u", claims={"iss": ["https://i"]}), Principal("u", client_id="c")),
        (AccessToken("c", subject=""), None),
        (AccessToken(""), None),
        (AccessToken("", subject=""), None),
    ],
)
def test_a_token_stands_for_issuer_client_and_subject(token: AccessToken, principal: Principal | None) -> None:
    assert principal_of(token) == principal


def test_a_machine_is_not_the_user_of_its_name() -> None:
    assert principal_of(AccessToken("c")) != principal_of(AccessToken("c", subject="c"))


@pytest.mark.requirement("auth-59")
def test_neither_token_nor_claims_are_shown() -> None:
    shown = repr(AccessToken("c", ["s"], "SECRET", claims={"email": "HIDDEN"}))
    assert "SECRET" not in shown
    assert "HIDDEN" not in shown
    assert "client_id='c'" in shown


def test_scopes_are_kept_as_a_tuple() -> None:
    assert AccessToken("c", ["a", "b"]).scopes == ("a", "b")
    with pytest.raises(TypeError, match="list of strings"):
        AccessToken("c", "mcp:read")


def test_the_token_of_a_request_is_seen_within_it_and_not_beyond() -> None:
    token = AccessToken("c")
    assert get_access_token() is None
    with access_token_set(token):
        assert get_access_token() is token
        assert contextvars.copy_context().run(get_access_token) is token
        with access_token_set(None):
            assert get_access_token() is None
    assert get_access_token() is None


def test_a_request_has_claims_of_its_own_with_all_that_is_in_them() -> None:
    """The verified token is kept for later requests: what a handler changes must not be seen by them."""
    kept = AccessToken("c", subject="ann", claims={"realm_access": {"roles": ["user", {"of": ["hr"]}]}})
    claims: Any = kept.with_token("t").claims
    claims["realm_access"]["roles"][1]["of"].append("admin")
    claims["realm_access"]["roles"].append("admin")
    claims["tenant"] = "another"
    assert kept.claims == {"realm_access": {"roles": ["user", {"of": ["hr"]}]}}


def test_claims_nested_deeper_than_the_stack_are_no_failure() -> None:
    nested: Any = "end"
    for _ in range(100_000):
        nested = [nested]
    assert AccessToken("c", claims={"nested": nested}).with_token("t").token == "t"


def test_what_a_known_token_gives_each_request_is_the_whole_token_with_claims_of_its_own() -> None:
    for claims in (None, {"iss": "i", "n": 1}, {"iss": "i", "roles": ["a"], "deep": {"x": [1]}}):
        held = AccessToken("c", ("a", "b"), "text", 17, "https://r", "ann", claims)
        copies = held.copies()
        first, second = copies(), copies()
        assert first == second == held
        if claims is not None:
            assert first.claims is not second.claims
            assert first.claims is not held.claims
            assert first.claims == claims
    assert Principal("s", "i", {"a": 1}, client_id="c").with_claims({"b": 2}) == Principal("s", "i", client_id="c")
    assert Principal("s", "i", client_id="c").with_claims({"b": 2}).claims == {"b": 2}


def test_each_copy_of_a_token_of_another_class_is_of_that_class() -> None:
    @dataclass(frozen=True)
    class Own(AccessToken):
        more: str = ""

    held = Own("c", ("a",), "text", claims={"iss": "i"}, more="x")
    assert held.copies()() == held
