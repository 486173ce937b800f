"""Which scopes a token has and which a request needs: parsing, hierarchies, and the scopes that a challenge names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trio_mcp.auth.errors import AuthConfigurationError

__all__ = ["ScopeHierarchy", "check_scopes", "read_scopes", "union"]

OFFLINE_ACCESS = "offline_access"

# scope-token = 1*( %x21 / %x23-5B / %x5D-7E ), RFC 6749 §3.3
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def check_scopes(scopes: Iterable[str], what: str, *, offered: bool = True) -> tuple[str, ...]:
    """The scopes without repetition, in their order. `what` names the setting in errors.

    `offered` says that clients will ask for them. Then `offline_access` is refused: whether a client wants refresh tokens
    is not for the resource server to say (MCP 2026-07-28 authorization, SEP-2207).

    Raises AuthConfigurationError for a string in place of a list and for what is not a scope (RFC 6749 §3.3).
    """
    if isinstance(scopes, str):
        raise AuthConfigurationError(f'{what} is a list of scopes: write ["{scopes}"]')
    found = tuple(dict.fromkeys(scopes))
    for scope in found:
        if not _SCOPE.fullmatch(scope):
            raise AuthConfigurationError(f"{what}: {scope!r} is not a scope; no spaces, quotes or backslashes in one")
        if offered and scope == OFFLINE_ACCESS:
            raise AuthConfigurationError(f"{what}: leave out {OFFLINE_ACCESS}; clients ask for it themselves")
    return found


def read_scopes(claims: Mapping[str, object], names: Sequence[str]) -> tuple[str, ...] | None:
    """The scopes in the first of the claims `names` that is there: a string with spaces, or a list of strings.

    Empty when no such claim is there. None when the claim has another form, which makes the token invalid.
    """
    value = next((claims[name] for name in names if claims.get(name) is not None), "")
    if isinstance(value, str):
        return tuple(dict.fromkeys(scope for scope in value.split(" ") if scope))
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return tuple(dict.fromkeys(value))
    return None


def union(*groups: Iterable[str]) -> tuple[str, ...]:
    """All scopes of the groups once, each where it came first."""
    return tuple(dict.fromkeys(scope for group in groups for scope in group))


@dataclass(frozen=True, slots=True)
class ScopeHierarchy:
    """Which scopes include others, closed over all steps: `{"admin": {"write", "read"}, "write": {"read"}}`.

    MCP 2026-07-28 authorization: scope hierarchies MUST be honoured when a token is judged.
    """

    included: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, implies: Mapping[str, Iterable[str]]) -> ScopeHierarchy:
        """From direct steps, such as `{"admin": ["write"], "write": ["read"]}`.

        Raises AuthConfigurationError for a scope that includes itself over some steps, and for what is not a scope.
        """
        direct = {
            check_scopes([scope], "scope_implies", offered=False)[0]: check_scopes(
                implied, f"scope_implies[{scope!r}]", offered=False
            )
            for scope, implied in implies.items()
        }
        return cls({scope: _closure(scope, direct) for scope in direct})

    def granted(self, scopes: Iterable[str]) -> frozenset[str]:
        """The scopes and all that they include."""
        listed = frozenset(scopes)
        return listed.union(*(self.included[scope] for scope in listed if scope in self.included))

    def lacking(self, held: Iterable[str], needed: Iterable[str]) -> tuple[str, ...]:
        """Those of `needed` that a token with the scopes `held` does not have, in their order."""
        granted = self.granted(held) if self.included else frozenset(held)
        return tuple(scope for scope in needed if scope not in granted)


def _closure(scope: str, direct: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    reached: set[str] = set()
    pending = list(direct[scope])
    while pending:
        each = pending.pop()
        if each == scope:
            raise AuthConfigurationError(f"scope_implies: {scope!r} includes itself; remove one step of the circle")
        if each not in reached:
            reached.add(each)
            pending.extend(direct.get(each, ()))
    return frozenset(reached)
