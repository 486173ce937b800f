"""Verifying signed access tokens (RFC 9068, RFC 8725): form, claims, key, signature, in this order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from trio_mcp.auth.bearer import MAX_TOKEN_BYTES
from trio_mcp.auth.claim_rules import CLIENT_CLAIMS, LEEWAY_SECONDS, SCOPE_CLAIMS, ClaimRules, Window
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.fetching import Fetch, http_fetch
from trio_mcp.auth.jwks import FixedKeys, KeySource, RemoteKeys
from trio_mcp.auth.jws import Jws, json_object, read_jws
from trio_mcp.auth.key_refresh import KeyStatistics
from trio_mcp.auth.keys import KeyMiss
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.resource import check_audiences, check_url
from trio_mcp.auth.signatures import KeyUnusable, VerificationKey, key_from_pem, key_from_secret, signature_is_good
from trio_mcp.auth.token_cache import TokenCache
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.auth.verifier import Verdict, Verifier

__all__ = ["ASYMMETRIC", "JWTVerifier"]

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms for keys that come from an issuer. `none` and those with a shared secret are never among them."""

_SYMMETRIC = ("HS256",)

_ACCESS_TOKEN_TYPES = (None, "jwt", "at+jwt")
"""What `typ` may be. Tokens for other purposes have one of their own (RFC 8725 §3.11): `logout+jwt`, `oauth-id-jag+jwt`."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """What is kept of a token that was verified; `token` without its text."""

    token: AccessToken
    key: VerificationKey
    window: Window


class JWTVerifier(Verifier):
    """Verifies signed tokens of one issuer.

    Keys come from `jwks_uri`, else from `public_key`, else from `secret`, else from where the metadata of the issuer says.

    Args:
        issuer: The `iss` of its tokens, exactly.
        audience: Who tokens must be for, one or several; the resource of the `BearerAuth` where none is given.
        jwks_uri: Where the keys are, to skip discovery.
        public_key: A key in PEM form, or several for different algorithms; nothing is fetched then.
        secret: A secret of at least 32 bytes shared with the issuer, for HS256.
        algorithms: Those accepted; all asymmetric ones by default.
        leeway: Seconds that clocks may differ, for `exp`, `nbf` and `iat`.
        require_type: The `typ` that tokens must have, such as `at+jwt` (RFC 9068 §4).
        scope_claims: Claims that may hold the scopes; the first that is there counts.
        client_claims: Claims that may hold the client id; the first that is there counts.
        audience_claim: The claim that is compared with `audience`; `client_id` for Cognito.
        required_claims: Claims with the values they must have, such as `{"token_use": "access"}` for Cognito.
        max_token: Bytes above which a token is refused unread.
        fetch: Sends the requests for metadata and keys.
        now: The clock that tokens are judged by, Unix time in seconds.

    Raises:
        AuthConfigurationError: What is given contradicts itself; the text says what to set.
    """

    signed_only = True

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Iterable[str] | None = None,
        jwks_uri: str | None = None,
        public_key: str | bytes | Sequence[str | bytes] | None = None,
        secret: bytes | None = None,
        algorithms: Sequence[str] | None = None,
        leeway: float = LEEWAY_SECONDS,
        require_type: str | None = None,
        scope_claims: Sequence[str] = SCOPE_CLAIMS,
        client_claims: Sequence[str] = CLIENT_CLAIMS,
        audience_claim: str = "aud",
        required_claims: Mapping[str, str] | None = None,
        max_token: int = MAX_TOKEN_BYTES,
        fetch: Fetch = http_fetch,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuers: tuple[str, ...] = (check_url(issuer, "issuer"),)
        self._rules = ClaimRules(
            issuer,
            check_audiences(audience),
            leeway,
            audience_claim,
            scope_claims,
            client_claims,
            required_claims or {},
        )
        self._algorithms = _checked_algorithms(algorithms, shared=secret is not None)
        self._types = _ACCESS_TOKEN_TYPES if require_type is None else (require_type.lower(),)
        self._max_token = max_token
        self._now = now
        self._verified: TokenCache[_Verified] = TokenCache()
        self._keys = _key_source(issuer, jwks_uri, public_key, secret, fetch)

    def bind(self, resource: str) -> None:
        """Take `resource` as the audience, where none was given."""
        if not self._rules.audience:
            self._rules = replace(self._rules, audience=(resource,))

    async def judge(self, token: str) -> Verdict:
        """The token, or why it is refused. Raises CannotTell while there are no keys to judge it by."""
        # Not `self.judge_now`: a class that judges by more has none.
        verdict = JWTVerifier.judge_now(self, token)
        return await self._verify(token, self._now()) if verdict is None else verdict

    def judge_now(self, token: str) -> Verdict | None:
        """Of a token that was verified before, whose key is still the issuer's."""
        now = self._now()
        known = self._verified.get(token, now)
        if known is None or not self._keys.holds(known.key):
            return None
        refusal = known.window.refusal(now)
        return known.token.with_token(token) if refusal is None else TokenRefused(refusal, issuer=known.token.issuer)

    def standing(self, token: str) -> Callable[[], bool] | None:
        """As long as its key is the issuer's, and until it expires."""
        known = self._verified.get(token, self._now())
        if known is None:
            return None
        return lambda: self._keys.holds(known.key) and known.window.refusal(self._now()) is None

    @property
    def ready(self) -> bool:
        """Whether keys were fetched at any time."""
        return not isinstance(self._keys, RemoteKeys) or self._keys.loaded

    async def wait_ready(self) -> None:
        """Wait until keys were fetched."""
        if isinstance(self._keys, RemoteKeys):
            await self._keys.wait_loaded()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the keys fresh; ends at once when they are fixed. Raises AuthConfigurationError, see `RemoteKeys.run`."""
        if isinstance(self._keys, RemoteKeys):
            await self._keys.run(task_status=task_status)
        else:
            task_status.started()

    @property
    def issuer_document(self) -> bytes | None:
        """The metadata of the issuer, where it was fetched to find the keys."""
        return self._keys.issuer_document if isinstance(self._keys, RemoteKeys) else None

    def statistics(self) -> Mapping[str, KeyStatistics]:
        """How old the keys are and how often they were fetched."""
        if not isinstance(self._keys, RemoteKeys):
            return {}
        return {self.issuers[0]: self._keys.plan.statistics(trio.current_time())}

    async def _verify(self, token: str, now: float) -> Verdict:
        jws = read_jws(token, max_bytes=self._max_token)
        if isinstance(jws, Refusal):
            return TokenRefused(jws)
        # Claims before the key: a token that is refused anyhow must not cause a fetch, or cost the check of a signature.
        described = self._described(jws, now)
        if isinstance(described, Refusal):
            return TokenRefused(described, jws.kid)
        key = await self._key_for(jws)
        if isinstance(key, Refusal):
            return TokenRefused(key, jws.kid, described.issuer)
        if not signature_is_good(jws, key):
            return TokenRefused(Refusal.SIGNATURE, jws.kid, described.issuer)
        window = self._rules.window(described.claims or {})
        if window is not None:
            self._verified.put(token, _Verified(described, key, window), until=math.inf)
        return described.with_token(token)

    def _described(self, jws: Jws, now: float) -> AccessToken | Refusal:
        if jws.algorithm not in self._algorithms:
            return Refusal.ALGORITHM
        if jws.type not in self._types:
            return Refusal.TYPE
        claims = json_object(jws.payload)
        return Refusal.MALFORMED if claims is None else self._rules.judge(claims, now)

    async def _key_for(self, jws: Jws) -> VerificationKey | Refusal:
        match await self._keys.find(jws.kid, jws.algorithm):
            case KeyMiss.ALGORITHM:
                return Refusal.ALGORITHM
            case KeyMiss():
                return Refusal.UNKNOWN_KEY
            case key:
                return key


def _checked_algorithms(algorithms: Sequence[str] | None, *, shared: bool) -> tuple[str, ...]:
    usable = _SYMMETRIC if shared else ASYMMETRIC
    if algorithms is None:
        return usable
    for algorithm in algorithms:
        if algorithm not in usable:
            hint = "HS256 needs secret=" if algorithm.startswith("HS") else "use " + ", ".join(usable)
            raise AuthConfigurationError(f"algorithms: {algorithm!r} is not accepted with these keys; {hint}")
    if isinstance(algorithms, str) or not algorithms:
        raise AuthConfigurationError(f"algorithms is a list of {', '.join(usable)}")
    return tuple(algorithms)


def _key_source(
    issuer: str,
    jwks_uri: str | None,
    public_key: str | bytes | Sequence[str | bytes] | None,
    secret: bytes | None,
    fetch: Fetch,
) -> KeySource:
    if sum(given is not None for given in (jwks_uri, public_key, secret)) > 1:
        raise AuthConfigurationError("give one of jwks_uri, public_key and secret, or none of them for discovery")
    try:
        if secret is not None:
            return FixedKeys(key_from_secret(secret))
        if public_key is not None:
            pems = [public_key] if isinstance(public_key, str | bytes) else public_key
            return FixedKeys(*map(key_from_pem, pems))
    except KeyUnusable as error:
        raise AuthConfigurationError(f"{'public_key' if secret is None else 'secret'}: {error}") from error
    return RemoteKeys(fetch, issuer=issuer, jwks_uri=jwks_uri)
