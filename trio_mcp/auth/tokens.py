"""A verified access token, whom it stands for, and which one the running handler answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from trio_mcp.auth.principal import Principal
from trio_mcp.features.injection import HandlerToken

__all__ = ["AccessToken", "access_token_set", "get_access_token", "principal_of"]

COPIED_LEVELS = 32
"""How deep claims are copied for each request. An issuer could nest them deeper than Python's stack is."""


@dataclass(frozen=True, slots=True)
class AccessToken(HandlerToken):
    """What a verified token says. The fields are those of the `AccessToken` of the official Python SDK.

    The text of the token is left out of `repr`, so that it reaches no log by accident. So are the claims.
    """

    client_id: str
    """The OAuth client that the token was issued to; empty where the issuer does not say."""
    scopes: Sequence[str] = ()
    """The granted scopes, as the token lists them: without those that a hierarchy adds."""
    token: str = field(default="", repr=False)
    """The token as it was sent. Pass it to nobody (MCP 2025-06-18 security, token passthrough); exchange it (RFC 8693)."""
    expires_at: int | None = None
    """Unix time in seconds; None for a token that does not expire."""
    resource: str | None = None
    """The audience that was checked (RFC 8707); None where the verifier checked it without saying which."""
    subject: str | None = None
    """The user; None for a client that acts for nobody."""
    claims: Mapping[str, Any] | None = field(default=None, repr=False)
    """All claims of the token or of the introspection answer."""

    def __post_init__(self) -> None:
        if isinstance(self.scopes, str):
            raise TypeError("scopes is a list of strings, not a string")
        object.__setattr__(self, "scopes", tuple(self.scopes))

    @property
    def issuer(self) -> str:
        """The `iss` claim; empty without one."""
        issuer = (self.claims or {}).get("iss")
        return issuer if isinstance(issuer, str) else ""

    def with_token(self, token: str) -> AccessToken:
        """The same, with the text of the token, and with claims of its own that a handler may change."""
        claims = None if self.claims is None else _copied(dict(self.claims), COPIED_LEVELS)
        if type(self) is not AccessToken:
            return replace(self, token=token, claims=claims)
        # Each request pays for this, and `replace` takes three times as long.
        return AccessToken(self.client_id, self.scopes, token, self.expires_at, self.resource, self.subject, claims)

    def copies(self) -> Callable[[], AccessToken]:
        """A function that makes what `with_token` makes with the same text, over and over. What can be found out beforehand is."""
        claims = self.claims
        if type(self) is not AccessToken or claims is None or not _PLAIN.issuperset(map(type, claims.values())):
            return partial(self.with_token, self.token)
        return partial(self._with_claims, dict(claims))

    def _with_claims(self, claims: dict[str, Any]) -> AccessToken:
        # What the constructor of a frozen dataclass does takes three times as long.
        new, put = object.__new__(AccessToken), object.__setattr__
        put(new, "client_id", self.client_id)
        put(new, "scopes", self.scopes)
        put(new, "token", self.token)
        put(new, "expires_at", self.expires_at)
        put(new, "resource", self.resource)
        put(new, "subject", self.subject)
        put(new, "claims", claims.copy())
        return new


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _copied(value: Any, levels: int) -> Any:
    """Copy a dict or list of JSON with all that is in it. Each request pays for it: `copy.deepcopy` takes many times as long."""
    if levels == 0:
        return value
    levels -= 1
    if isinstance(value, dict):
        return {name: each if type(each) in _PLAIN else _copied(each, levels) for name, each in value.items()}
    if isinstance(value, list):
        return [each if type(each) in _PLAIN else _copied(each, levels) for each in value]
    return value


def principal_of(token: AccessToken) -> Principal | None:
    """Who the token stands for: issuer, client and subject together; None when it names neither client nor subject.

    An empty subject is nobody: everybody whose token has one would be the same caller. A client that acts for nobody
    (client credentials) has no subject; its principal has an empty one and cannot be taken for a user, who has a name.
    """
    if token.subject == "" or not (token.subject or token.client_id):
        return None
    return Principal(token.subject or "", token.issuer, token.claims or {}, client_id=token.client_id)


def get_access_token() -> AccessToken | None:
    """The token of the request that the running handler answers; None without authorization, and in background tasks.

    The official Python SDK has a function of this name. New code takes `ctx.token`, or a parameter of type `AccessToken`.
    """
    return _current.get()


_current: ContextVar[AccessToken | None] = ContextVar("access_token", default=None)


class access_token_set:
    """Within the block, `get_access_token` returns `token`. Around each call: a class costs a quarter of a `contextmanager`."""

    __slots__ = ("_before", "_token")

    def __init__(self, token: AccessToken | None) -> None:
        self._token = token

    def __enter__(self) -> None:
        self._before = _current.set(self._token)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._before)
