"""What a component asks of its caller: scopes, roles, or a function over the token; judged without I/O, also for lists."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.scopes import ScopeHierarchy, check_scopes, union
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.features.functions import describe, is_async
from trio_mcp.observability.logs import event

__all__ = [
    "OPEN",
    "Check",
    "Forbidden",
    "Granted",
    "LacksScopes",
    "Requirements",
    "RolesRequired",
    "ScopesRequired",
    "check_guarded",
    "judge_all",
    "require_roles",
    "require_scopes",
    "requirements",
]

logger: logging.Logger = logging.getLogger("trio_mcp.auth")


@dataclass(frozen=True, slots=True)
class ScopesRequired:
    """The token needs all of these scopes, by itself or by hierarchy."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RolesRequired:
    """The token needs all of these roles, which `extract` finds in its claims."""

    roles: frozenset[str]
    extract: Callable[[Mapping[str, Any]], Iterable[str]]

    def __call__(self, token: AccessToken) -> bool:
        """Whether the token has the roles. A claim that `extract` does not find means that it has none."""
        try:
            held = self.extract(token.claims or {})
            # A string is a list of its letters to Python, and no list of roles.
            return not isinstance(held, str) and self.roles <= {role for role in held if isinstance(role, str)}
        except (KeyError, TypeError, IndexError):
            return False


Check: TypeAlias = ScopesRequired | RolesRequired | Callable[[AccessToken], bool]
"""One condition. A function gets the token and returns whether its owner may use the component; it must not block."""


def require_scopes(*scopes: str) -> ScopesRequired:
    """For `auth=`: the token needs all these scopes. A caller without them gets a 403 that names them.

    Raises AuthConfigurationError for what is not a scope.
    """
    if not scopes:
        raise AuthConfigurationError("require_scopes needs a scope")
    return ScopesRequired(check_scopes(scopes, "require_scopes"))


def require_roles(*roles: str, extract: Callable[[Mapping[str, Any]], Iterable[str]] | None = None) -> RolesRequired:
    """For `auth=`: the token needs all these roles. A component is not listed for those who lack one.

    `extract` takes the claims and returns the roles of the caller, such as `lambda c: c["realm_access"]["roles"]` for
    Keycloak; without it they are in the claim `roles`. Raises AuthConfigurationError without a role, and for an async `extract`.
    """
    if not roles:
        raise AuthConfigurationError("require_roles needs a role")
    if extract is not None and is_async(extract):
        raise AuthConfigurationError(
            f"require_roles: extract returns the roles without waiting, not the async {extract!r}: write it with def, and let "
            "the verifier fetch what it needs"
        )
    return RolesRequired(frozenset(roles), extract or _roles_claim)


@dataclass(frozen=True, slots=True)
class Requirements:
    """All conditions of one component, made once when it is registered."""

    scopes: tuple[str, ...] = ()
    checks: tuple[Callable[[AccessToken], bool], ...] = ()
    hide: bool = False
    """Whether a lack of scopes hides the component from lists, as a failed check does anyway."""

    def __bool__(self) -> bool:
        return bool(self.scopes or self.checks)

    def admits(self, token: AccessToken) -> bool:
        """Whether all conditions but scopes are met. A check is met when it returns True; else, or if it raises, it is not."""
        return all(_holds(check, token) for check in self.checks)

    def listed_for(self, token: AccessToken | None, hierarchy: ScopeHierarchy) -> bool:
        """Whether a list shows the component. What lacks only a scope stays listed, so that clients can ask for it.

        Without a token nobody is asked: stdio, and servers without authorization.
        """
        if token is None:
            return True
        return self.admits(token) and not (self.hide and hierarchy.lacking(token.scopes, self.scopes))


OPEN = Requirements()
"""No conditions."""


def requirements(auth: Check | Sequence[Check] | None, *, hide: bool = False) -> Requirements:
    """The value of `auth=` as one set of conditions, all of which must be met. Raises AuthConfigurationError."""
    checks: list[Any] = [] if auth is None else [*auth] if isinstance(auth, list | tuple) else [auth]
    scopes = union(*(check.scopes for check in checks if isinstance(check, ScopesRequired)))
    others = [check for check in checks if not isinstance(check, ScopesRequired)]
    for check in others:
        _check_usable(check)
    return Requirements(scopes, tuple(others), hide)


@dataclass(frozen=True, slots=True)
class Granted:
    """The caller may use it."""


@dataclass(frozen=True, slots=True)
class LacksScopes:
    """A token with more scopes would do: a 403 with a challenge."""

    needed: tuple[str, ...]
    """All that the whole request needs, for one challenge (MCP 2026-07-28, SEP-2350)."""
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """No scope would help: a 403 without a challenge."""


def judge_all(
    asked: Iterable[Requirements], token: AccessToken | None, hierarchy: ScopeHierarchy
) -> Granted | LacksScopes | Forbidden:
    """Whether a request may be served that uses these components: one, or those of all elements of a batch.

    A batch is served whole or not at all, because it has one status and one challenge. Without a token nobody is asked.
    """
    if token is None:
        return Granted()
    all_asked = list(asked)
    if not all(each.admits(token) for each in all_asked):
        return Forbidden()
    needed = union(*(each.scopes for each in all_asked))
    lacking = hierarchy.lacking(token.scopes, needed)
    return LacksScopes(needed, lacking) if lacking else Granted()


def check_guarded(components: Mapping[str, Requirements], *, verified: bool) -> None:
    """Refuse to serve over a network what asks for scopes or roles, where nothing verifies tokens.

    `components` has a name for people, such as `tool 'delete_file'`. Raises AuthConfigurationError, which names the first.
    """
    guarded = next((name for name, asked in components.items() if asked), None)
    if guarded is not None and not verified:
        raise AuthConfigurationError(
            f"{guarded} has auth=, but nothing verifies tokens: pass auth= to the server, or set TRIO_MCP_AUTH_ISSUER"
        )


def _check_usable(check: Any) -> None:
    """Raise AuthConfigurationError for a check that could not say whether a token is good."""
    if check is require_scopes or check is require_roles:
        raise AuthConfigurationError(f'auth={check.__name__} checks nothing: write auth={check.__name__}("…")')
    if not callable(check) or isinstance(check, type):
        raise AuthConfigurationError(f"auth= takes require_scopes(…), require_roles(…) or a function, not {check!r}")
    if is_async(check):
        raise AuthConfigurationError(
            f"auth= takes a function that returns a bool without waiting, not the async {check!r}: write it with def, and "
            "let the verifier fetch what it needs"
        )


def _holds(check: Callable[[AccessToken], object], token: AccessToken) -> bool:
    """Whether the check returns True. It is user code: what it raises ends here, and refuses.

    These four mean that the token lacks what the check looks at, such as a claim. Anything else is a fault, and logged.
    """
    try:
        found = check(token)
    except (AttributeError, IndexError, KeyError, TypeError):
        return False
    except (Exception, SystemExit) as fault:  # the boundary of checks
        event(logger, logging.ERROR, "authorization check failed", error=fault, check=describe(check))
        return False
    if inspect.iscoroutine(found):
        # It was never started. Closed here, it does not warn when it is collected.
        found.close()
    return found is True


def _roles_claim(claims: Mapping[str, Any]) -> Iterable[str]:
    roles: Iterable[str] = claims["roles"]
    return roles
