"""A caller whose token was accepted, for the next request that comes with it: to judge the same token again would cost ten times as much.

What can change is looked at for each request: the clock, and whatever the verifier of the token has to look at.
"""

from __future__ import annotations

from collections.abc import Callable

from trio_mcp.auth.judgement import Allowed
from trio_mcp.auth.principal import CannotTell

__all__ = ["KnownCaller"]


class KnownCaller:
    """`stands` says whether the verifier still accepts the token, and may raise CannotTell. From `closes` on, by `now`, it is refused."""

    __slots__ = ("_closes", "_now", "_principal", "_stands", "_token")

    def __init__(self, allowed: Allowed, stands: Callable[[], bool], closes: float, now: Callable[[], float]) -> None:
        # A copy: the handler of the present request may change the claims of its own.
        self._token = allowed.token.with_token(allowed.token.token).copies()
        self._principal = allowed.principal.identity
        self._stands = stands
        self._closes = closes
        self._now = now

    def again(self) -> Allowed | None:
        """The caller once more, with claims that a handler may change. None: the token has to be judged like any other."""
        try:
            if self._now() >= self._closes or not self._stands():
                return None
        except CannotTell:
            return None
        token = self._token()
        return Allowed(token, self._principal.with_claims(token.claims or {}))
