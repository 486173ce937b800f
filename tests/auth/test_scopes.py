"""Which scopes a token has, and which it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.scopes import ScopeHierarchy, check_scopes, read_scopes, union

NONE = ScopeHierarchy.of({})
LADDER = ScopeHierarchy.of({"mcp:admin": ["mcp:write"], "mcp:write": ["mcp:read"]})


@pytest.mark.requirement("auth-38")
@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, ()),
        ({"scope": ""}, ()),
        ({"scope": "a b"}, ("a", "b")),
        ({"scope": " a  b a "}, ("a", "b")),
        ({"scope": ["a", "b"]}, ("a", "b")),
        ({"scp": ["a", "b", "a"]}, ("a", "b")),
        ({"scp": "a b"}, ("a", "b")),
        ({"scope": None, "scp": "a"}, ("a",)),
        ({"scope": "a", "scp": "b"}, ("a",)),
        ({"scope": "a\tb"}, ("a\tb",)),
        ({"scope": 1}, None),
        ({"scope": {"a": 1}}, None),
        ({"scope": ["a", 1]}, None),
        ({"scope": True}, None),
    ],
)
def test_scopes_are_read_from_the_first_claim_that_is_there(
    claims: dict[str, Any], scopes: tuple[str, ...] | None
) -> None:
    assert read_scopes(claims, ("scope", "scp")) == scopes


@pytest.mark.requirement("auth-35", "auth-38", "auth-39")
@pytest.mark.parametrize(
    ("hierarchy", "held", "lacking"),
    [
        (NONE, ["mcp:read", "mcp:write"], ()),
        (NONE, [], ("mcp:read", "mcp:write")),
        (NONE, ["mcp:write"], ("mcp:read",)),
        (NONE, ["mcp:readX", "mcp:write"], ("mcp:read",)),
        (NONE, ["MCP:READ", "mcp:write"], ("mcp:read",)),
        (NONE, ["mcp:*"], ("mcp:read", "mcp:write")),
        (NONE, ["mcp:admin"], ("mcp:read", "mcp:write")),
        (LADDER, ["mcp:admin"], ()),
        (LADDER, ["mcp:write"], ()),
        (LADDER, ["mcp:read"], ("mcp:write",)),
        (LADDER, ["mcp:adminX"], ("mcp:read", "mcp:write")),
    ],
)
def test_what_a_token_lacks(hierarchy: ScopeHierarchy, held: list[str], lacking: tuple[str, ...]) -> None:
    assert hierarchy.lacking(held, ["mcp:read", "mcp:write"]) == lacking


@pytest.mark.parametrize(
    "implies",
    [
        {"a": ["a"]},
        {"a": ["b"], "b": ["a"]},
        {"a": ["b"], "b": ["c"], "c": ["b"]},
        {"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]},
    ],
)
def test_a_circle_is_refused(implies: dict[str, list[str]]) -> None:
    with pytest.raises(AuthConfigurationError, match="includes itself"):
        ScopeHierarchy.of(implies)


def test_two_ways_to_the_same_scope_are_no_circle() -> None:
    diamond = ScopeHierarchy.of({"a": ["b", "c"], "b": ["d"], "c": ["d"]})
    assert diamond.granted(["a"]) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("scopes", "complaint"),
    [
        ("mcp:read", "a list"),
        (["mcp read"], "not a scope"),
        (['mcp"read'], "not a scope"),
        (["mcp\\read"], "not a scope"),
        ([""], "not a scope"),
        (["l\u00e4sen"], "not a scope"),
        (["a\n"], "not a scope"),
        (["offline_access"], "offline_access"),
    ],
)
def test_what_is_no_scope_is_refused_with_the_setting_s_name(scopes: Any, complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=f"^required_scopes.*{complaint}"):
        check_scopes(scopes, "required_scopes")


def test_scopes_keep_their_order_and_come_once() -> None:
    assert check_scopes(["b", "a", "b"], "x") == ("b", "a")
    assert union(["b"], [], ["a", "b", "c"]) == ("b", "a", "c")
