"""What components ask of their callers, and what a list shows."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest

from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.checks import (
    OPEN,
    Forbidden,
    Granted,
    LacksScopes,
    Requirements,
    check_guarded,
    judge_all,
    require_roles,
    require_scopes,
    requirements,
)
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.scopes import ScopeHierarchy
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken

STATIC = StaticTokenVerifier({"t": AccessToken("c")})
NONE = ScopeHierarchy.of({})
WRITE = requirements(require_scopes("mcp:write"))
HR = requirements([require_scopes("hr:read"), require_roles("hr", extract=lambda c: c["realm_access"]["roles"])])
TENANT = requirements(lambda token: (token.claims or {}).get("tenant") == "a")


def token(*scopes: str, **claims: Any) -> AccessToken:
    return AccessToken("c", scopes, subject="u", claims=claims)


HR_ROLE = {"roles": ["hr", "staff"]}


@pytest.mark.requirement("auth-36", "auth-40", "auth-41", "auth-42", "auth-45", "auth-76")
@pytest.mark.parametrize(
    ("asked", "caller", "verdict"),
    [
        ([], token(), Granted()),
        ([OPEN], token(), Granted()),
        ([WRITE], token("mcp:write"), Granted()),
        ([WRITE], token("mcp:read"), LacksScopes(("mcp:write",), ("mcp:write",))),
        ([WRITE], None, Granted()),
        ([HR], token("hr:read", realm_access=HR_ROLE), Granted()),
        ([HR], token("hr:read"), Forbidden()),
        ([HR], token("hr:read", realm_access=None), Forbidden()),
        ([HR], token("hr:read", realm_access={"roles": "hr"}), Forbidden()),
        ([HR], token("hr:read", realm_access={"roles": [["hr"]]}), Forbidden()),
        ([HR], token(realm_access=HR_ROLE), LacksScopes(("hr:read",), ("hr:read",))),
        ([HR], token(), Forbidden()),
        ([HR], None, Granted()),
        ([TENANT], token(tenant="a"), Granted()),
        ([TENANT], token(tenant="b"), Forbidden()),
        ([OPEN, WRITE, OPEN], token("mcp:write"), Granted()),
        ([OPEN, WRITE], token(), LacksScopes(("mcp:write",), ("mcp:write",))),
        ([requirements(require_scopes("a")), WRITE], token("a"), LacksScopes(("a", "mcp:write"), ("mcp:write",))),
        ([WRITE, TENANT], token("mcp:write", tenant="b"), Forbidden()),
    ],
)
def test_a_request_is_served_when_all_its_components_are(
    asked: list[Requirements], caller: AccessToken | None, verdict: object
) -> None:
    assert judge_all(asked, caller, NONE) == verdict


@pytest.mark.requirement("auth-38")
def test_a_hierarchy_counts() -> None:
    assert judge_all([WRITE], token("admin"), ScopeHierarchy.of({"admin": ["mcp:write"]})) == Granted()


@pytest.mark.requirement("auth-37")
@pytest.mark.parametrize(
    ("asked", "caller", "listed"),
    [
        (OPEN, token(), True),
        (WRITE, token(), True),
        (WRITE, None, True),
        (requirements(require_scopes("w"), hide=True), token(), False),
        (requirements(require_scopes("w"), hide=True), token("w"), True),
        (requirements(require_scopes("w"), hide=True), None, True),
        (HR, token("hr:read"), False),
        (HR, token(realm_access=HR_ROLE), True),
        (TENANT, token(tenant="b"), False),
        (TENANT, token(tenant="a"), True),
    ],
)
def test_a_list_shows_what_only_a_scope_stands_against(
    asked: Requirements, caller: AccessToken | None, listed: bool
) -> None:
    assert asked.listed_for(caller, NONE) is listed


def test_roles_are_in_the_claim_roles_by_default() -> None:
    roles = requirements(require_roles("hr"))
    assert roles.admits(token(roles=["hr"]))
    assert not roles.admits(token(roles="hr"))
    assert not requirements(require_roles("h")).admits(token(roles="hr"))
    assert not roles.admits(token())


def test_requirements_are_true_when_they_ask_something() -> None:
    assert not OPEN
    assert not requirements(None)
    assert WRITE
    assert TENANT


@pytest.mark.parametrize("auth", ["mcp:write", 1, [require_scopes("a"), "b"]])
def test_what_is_no_check_is_refused(auth: Any) -> None:
    with pytest.raises(AuthConfigurationError, match="auth= takes"):
        requirements(auth)


class AsyncCheck:
    async def __call__(self, token: AccessToken) -> bool:
        return False


async def deny(token: AccessToken) -> bool:
    return False


@pytest.mark.parametrize("auth", [deny, AsyncCheck(), partial(deny), [require_scopes("a"), deny]])
def test_an_async_check_is_refused(auth: Any) -> None:
    with pytest.raises(AuthConfigurationError, match="without waiting"):
        requirements(auth)
    with pytest.raises(AuthConfigurationError, match="without waiting"):
        BearerAuth(STATIC, resource="https://mcp.example.com/mcp").protect(deny, auth=auth)


async def roles_of(claims: Any) -> list[str]:
    return ["hr"]


@pytest.mark.parametrize("extract", [roles_of, partial(roles_of)])
def test_roles_are_extracted_without_waiting(extract: Any) -> None:
    with pytest.raises(AuthConfigurationError, match="require_roles: extract returns the roles without waiting"):
        require_roles("hr", extract=extract)


@pytest.mark.parametrize("make", [require_scopes, require_roles])
def test_a_check_without_its_parentheses_is_refused(make: Any) -> None:
    with pytest.raises(AuthConfigurationError, match=rf'write auth={make.__name__}\("…"\)'):
        requirements(make)


@pytest.mark.parametrize("answer", [1, "yes", [False], object(), None, False])
def test_only_true_admits(answer: object) -> None:
    check: Any = lambda token: answer  # noqa: E731
    assert not requirements(check).admits(token())


def test_a_coroutine_admits_nobody_and_is_closed() -> None:
    made = deny(token())
    hidden: Any = lambda token: made  # noqa: E731
    assert not requirements(hidden).admits(token())
    assert inspect.getcoroutinestate(made) == inspect.CORO_CLOSED


@pytest.mark.parametrize(
    ("fault", "logged"),
    [
        (KeyError("tenant"), False),
        (TypeError(), False),
        (IndexError(), False),
        (AttributeError(), False),
        (OSError("away"), True),
        (ValueError(), True),
        (SystemExit(1), True),
    ],
    ids=repr,
)
def test_a_check_that_raises_refuses(fault: BaseException, logged: bool, caplog: pytest.LogCaptureFixture) -> None:
    def check(token: AccessToken) -> bool:
        raise fault

    asked = requirements(check)
    assert judge_all([asked], token(), NONE) == Forbidden()
    assert [(each.message, each.exc_info is not None) for each in caplog.records] == (
        [("authorization check failed", True)] if logged else []
    )
    assert not asked.listed_for(token(), NONE)


@pytest.mark.parametrize("make", [require_scopes, require_roles])
def test_a_check_of_nothing_is_refused(make: Any) -> None:
    with pytest.raises(AuthConfigurationError, match="needs a"):
        make()


def test_a_scope_that_is_none_is_refused_where_it_is_written() -> None:
    with pytest.raises(AuthConfigurationError, match="not a scope"):
        require_scopes("mcp write")


def test_what_is_guarded_is_not_served_where_nothing_verifies_tokens() -> None:
    components = {"tool 'open'": OPEN, "tool 'delete_file'": WRITE}
    check_guarded(components, verified=True)
    check_guarded({"tool 'open'": OPEN}, verified=False)
    with pytest.raises(AuthConfigurationError, match=r"^tool 'delete_file' has auth="):
        check_guarded(components, verified=False)
