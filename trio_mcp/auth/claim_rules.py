"""Judging the claims of a token or of an introspection answer: issuer, audience, times, identity, scopes (RFC 7519, 9068, 7662)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from trio_mcp import defaults
from trio_mcp.auth.reasons import Refusal
from trio_mcp.auth.resource import matching_audience
from trio_mcp.auth.scopes import read_scopes
from trio_mcp.auth.tokens import AccessToken

__all__ = ["CLIENT_CLAIMS", "LEEWAY_SECONDS", "SCOPE_CLAIMS", "ClaimRules", "Claims", "Window"]

Claims: TypeAlias = Mapping[str, Any]

LEEWAY_SECONDS = defaults.AUTH_LEEWAY
"""How far the clocks of the authorization server and of this machine may differ, both ways."""

SCOPE_CLAIMS = ("scope", "scp")
"""RFC 9068 §2.2.3 has `scope`, Entra and Okta write `scp`."""

CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
"""RFC 9068 §2.2 has `client_id`; Keycloak and Auth0 write `azp`, Okta `cid`, Entra v1 `appid`."""


_MAX_TIME = 2**53
"""Up to here a double holds every integer (RFC 8259 §6); 1e400, which is read as infinity, and 10**400 are no times."""


class Window(NamedTuple):
    """When a token is good, in Unix time. Kept with a token that was verified, and compared anew for each request."""

    opens: float
    closes: float

    def refusal(self, now: float) -> Refusal | None:
        """Why the token is refused now."""
        if now >= self.closes:
            return Refusal.EXPIRED
        return Refusal.NOT_YET_VALID if now < self.opens else None


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims must say. Pure: the time is passed in, nothing is fetched.

    `audience` lists all that are accepted; `audience_claim` names another claim than `aud` (Cognito has none and needs
    `client_id`). Without `issuer` it must be one of `issuers`, and without those none is compared.

    The optional flags are for introspection answers, where these claims may be left out (RFC 7662 §2.2); a claim that is there is judged
    all the same.
    """

    issuer: str | None
    audience: tuple[str, ...]
    leeway: float = LEEWAY_SECONDS
    audience_claim: str = "aud"
    scope_claims: Sequence[str] = SCOPE_CLAIMS
    client_claims: Sequence[str] = CLIENT_CLAIMS
    required_claims: Mapping[str, str] = field(default_factory=dict)
    issuer_optional: bool = False
    audience_optional: bool = False
    expiry_optional: bool = False
    issuers: tuple[str, ...] = ()

    def judge(self, claims: Claims, now: float) -> AccessToken | Refusal:
        """The token that the claims describe, without its text, or why they are refused. `now` is Unix time in seconds."""
        for refusal in (
            self._issuer_refusal(claims),
            self._audience_refusal(claims),
            self._time_refusal(claims, now),
            self._required_refusal(claims),
        ):
            if refusal is not None:
                return refusal
        return self._described(claims)

    def window(self, claims: Claims) -> Window | None:
        """When the claims are good, with the leeway; None when a time claim is missing or is no time.

        Only JSON numbers of sensible size are times: not `true`, which Python counts as 1, and not "9999999999".
        """
        expiry, *starts = (claims.get(name) for name in ("exp", "nbf", "iat"))
        if expiry is None and not self.expiry_optional:
            return None
        if not all(value is None or _is_time(value) for value in (expiry, *starts)):
            return None
        return Window(
            max((start for start in starts if start is not None), default=-math.inf) - self.leeway,
            (math.inf if expiry is None else expiry) + self.leeway,
        )

    def _time_refusal(self, claims: Claims, now: float) -> Refusal | None:
        window = self.window(claims)
        return Refusal.CLAIMS if window is None else window.refusal(now)

    def _issuer_refusal(self, claims: Claims) -> Refusal | None:
        issuer = claims.get("iss")
        accepted = self.issuers if self.issuer is None else (self.issuer,)
        if not accepted or (issuer is None and self.issuer_optional):
            return None
        # RFC 8414 §2 and RFC 9207 §2.4: simple string comparison, so a slash more is another issuer.
        return None if isinstance(issuer, str) and issuer in accepted else Refusal.ISSUER

    def _audience_refusal(self, claims: Claims) -> Refusal | None:
        if claims.get(self.audience_claim) is None and self.audience_optional:
            return None
        return Refusal.AUDIENCE if self._audience_of(claims) is None else None

    def _audience_of(self, claims: Claims) -> str | None:
        return matching_audience(claims.get(self.audience_claim), self.audience)

    def _required_refusal(self, claims: Claims) -> Refusal | None:
        # RFC 7800: whoever presents such a token has to prove a key. As a bearer token anybody could have stolen it.
        if claims.get("cnf") is not None:
            return Refusal.SENDER_CONSTRAINED
        if any(claims.get(name) != value for name, value in self.required_claims.items()):
            return Refusal.TYPE
        return None

    def _described(self, claims: Claims) -> AccessToken | Refusal:
        subject = claims.get("sub")
        client = next((claims[name] for name in self.client_claims if claims.get(name) is not None), "")
        scopes = read_scopes(claims, self.scope_claims)
        if not isinstance(subject, str | None) or not isinstance(client, str) or scopes is None:
            return Refusal.CLAIMS
        if subject == "" or not (subject or client):
            return Refusal.IDENTITY
        expiry = claims.get("exp")
        return AccessToken(
            client_id=client,
            scopes=scopes,
            expires_at=None if expiry is None else math.floor(expiry),
            resource=self._audience_of(claims),
            subject=subject,
            claims=claims,
        )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_TIME
