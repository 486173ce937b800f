"""Asking the authorization server about each token (RFC 7662): for opaque tokens, and so that a revoked token is refused soon."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal
from urllib.parse import quote_plus, urlencode

import trio

from trio_mcp import defaults
from trio_mcp.auth.claim_rules import CLIENT_CLAIMS, LEEWAY_SECONDS, SCOPE_CLAIMS, ClaimRules, Window
from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import FETCH_SECONDS, Fetch, Response, fetch_within, http_fetch
from trio_mcp.auth.jws import json_object
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.resource import check_audiences, check_url
from trio_mcp.auth.token_cache import TokenCache, token_digest
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.auth.verifier import SENDER, Verdict, Verifier
from trio_mcp.observability.logs import event

__all__ = ["IntrospectionVerifier", "read_introspection"]

logger: logging.Logger = logging.getLogger("trio_mcp.auth")

CACHE_SECONDS = defaults.AUTH_INTROSPECTION_CACHE
"""How long an answer that a token is good counts: the time that a revoked one goes on to work."""

NEGATIVE_CACHE_SECONDS = 5.0
"""How long a refusal counts. Short, for a token may be asked about before its issuer has written it down everywhere."""

NEGATIVE_CACHED_TOKENS = 1024
"""In a cache of their own: tokens that anybody makes up must not displace those that are good."""

MAX_QUESTIONS = 32
"""At the same time; each has a connection. Others wait, within the 5 s that a question may take in all."""

MAX_QUESTIONS_OF_ONE = 8
"""Of these, on behalf of one address: who makes up tokens leaves room for others."""

AuthMethod = Literal["client_secret_basic", "client_secret_post"]


class _Question:
    """One question that is being asked; requests with the same token wait for its answer."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.verdict: Verdict | None = None
        self.failure: CannotTell | None = None


class IntrospectionVerifier(Verifier):
    """Verifies any token by asking the authorization server that issued it.

    Args:
        url: The introspection endpoint.
        client_id: Of this server, at the authorization server.
        client_secret: The same.
        audience: Who tokens must be for, one or several; the resource of the `BearerAuth` where none is given.
        issuer: What `iss` must be in answers that have it, one or several. An answer without it is of the one issuer; where there are
            several or none, of the endpoint that gave it.
        auth_method: How the credentials are sent (RFC 6749 §2.3.1).
        cache: Seconds that a positive answer counts; 0 asks for every request.
        trust_missing_audience: Accept answers without `aud`. Only for a server that answers this client about no token of
            other resources; otherwise a token stolen from another resource would work here.
        leeway: Seconds that clocks may differ.
        scope_claims: Members that may hold the scopes; the first that is there counts.
        client_claims: Members that may hold the client id; the first that is there counts.
        fetch: Sends the requests.
        now: The clock that tokens are judged by, Unix time in seconds.

    Raises:
        AuthConfigurationError: Without credentials, or for a URL that is not https (http on loopback).
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str,
        audience: str | Iterable[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        auth_method: AuthMethod = "client_secret_basic",
        cache: float = CACHE_SECONDS,
        trust_missing_audience: bool = False,
        leeway: float = LEEWAY_SECONDS,
        scope_claims: Sequence[str] = SCOPE_CLAIMS,
        client_claims: Sequence[str] = CLIENT_CLAIMS,
        fetch: Fetch = http_fetch,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not client_id or not client_secret:
            raise AuthConfigurationError(
                "introspection needs client_id and client_secret: the server must know who asks"
            )
        named = () if issuer is None else (issuer,) if isinstance(issuer, str) else (*issuer,)
        self.issuers: tuple[str, ...] = tuple(check_url(each, "issuer") for each in named)
        self._url = check_url(url, "introspection url")
        self._rules = ClaimRules(
            self.issuers[0] if len(self.issuers) == 1 else None,
            check_audiences(audience),
            leeway,
            scope_claims=scope_claims,
            client_claims=client_claims,
            issuer_optional=True,
            audience_optional=trust_missing_audience,
            expiry_optional=True,
            issuers=self.issuers,
        )
        self._headers, self._form = _credentials(client_id, client_secret, auth_method)
        self._cache_seconds = cache
        self._fetch = fetch
        self._now = now
        self._good: TokenCache[tuple[AccessToken, Window]] = TokenCache()
        self._refused: TokenCache[TokenRefused] = TokenCache(NEGATIVE_CACHED_TOKENS)
        self._questions: dict[bytes, _Question] = {}
        self._limit = trio.CapacityLimiter(MAX_QUESTIONS)
        self._senders: dict[str, trio.CapacityLimiter] = {}

    def bind(self, resource: str) -> None:
        """Take `resource` as the audience, where none was given."""
        if not self._rules.audience:
            self._rules = replace(self._rules, audience=(resource,))

    async def judge(self, token: str) -> Verdict:
        """What the authorization server says. Raises CannotTell when it says nothing that can be used within 5 s."""
        while True:
            known = self._known(token)
            if known is not None:
                return known
            question = self._questions.get(token_digest(token))
            if question is None:
                return await self._ask(token)
            await question.over.wait()
            verdict = question.verdict
            if verdict is not None:
                return verdict.with_token(token) if isinstance(verdict, AccessToken) else verdict
            if question.failure is not None:
                raise CannotTell(*question.failure.args)
            # Its client left before there was an answer: somebody who still waits asks anew.

    def _known(self, token: str) -> Verdict | None:
        known = self._good.get(token, trio.current_time())
        if known is None:
            return self._refused.get(token, trio.current_time())
        good, window = known
        refusal = window.refusal(self._now())
        return good.with_token(token) if refusal is None else TokenRefused(refusal)

    async def _ask(self, token: str) -> Verdict:
        digest = token_digest(token)
        question = self._questions[digest] = _Question()
        try:
            verdict = question.verdict = await self._answer(token)
        except CannotTell as error:
            question.failure = error
            raise
        finally:
            del self._questions[digest]
            question.over.set()
        self._keep(token, verdict)
        return verdict

    async def _answer(self, token: str) -> Verdict:
        form = urlencode([("token", token), ("token_type_hint", "access_token"), *self._form])
        headers = [
            *self._headers,
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
        ]
        try:
            with trio.fail_after(FETCH_SECONDS):
                async with self._turn():
                    response = await fetch_within(self._fetch, "POST", self._url, headers, form.encode())
            return read_introspection(response, token, self._rules, self._now(), self._url)
        except trio.TooSlowError:
            raise CannotTell(f"{self._url} did not answer within {FETCH_SECONDS:g} s") from None
        except FetchError as error:
            self._report_wrong_credentials(error)
            raise CannotTell(str(error)) from None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until another question may be asked: of all senders together, and of the one whose request this is."""
        sender = SENDER.get()
        if not sender:
            async with self._limit:
                yield
            return
        own = self._senders.setdefault(sender, trio.CapacityLimiter(MAX_QUESTIONS_OF_ONE))
        try:
            async with own, self._limit:
                yield
        finally:
            if not own.borrowed_tokens and not own.statistics().tasks_waiting:
                self._senders.pop(sender, None)

    def _keep(self, token: str, verdict: Verdict) -> None:
        now = trio.current_time()
        if isinstance(verdict, TokenRefused):
            self._refused.put(token, verdict, now + NEGATIVE_CACHE_SECONDS)
        elif self._cache_seconds > 0 and (window := self._rules.window(verdict.claims or {})) is not None:
            self._good.put(token, (verdict.with_token(""), window), now + self._cache_seconds)

    def _report_wrong_credentials(self, error: FetchError) -> None:
        if isinstance(error, _WrongCredentials):
            event(logger, logging.ERROR, "introspection refuses our credentials", url=self._url, why=str(error))


class _WrongCredentials(FetchError):
    """401 or 403 for us, not for the token."""


def read_introspection(response: Response, token: str, rules: ClaimRules, now: float, url: str = "") -> Verdict:
    """What an answer of the endpoint at `url` says of the token. `now` is Unix time in seconds.

    Only the JSON value `true` makes a token active. Raises FetchError for what is no answer to the question.
    """
    if response.status in (401, 403):
        raise _WrongCredentials(f"introspection answered {response.status}: check client_id and client_secret")
    claims = json_object(response.body)
    if response.status == 400 and claims is not None and claims.get("error") == "unsupported_token_type":
        # RFC 7009 §2.2.1. Servers that introspect opaque tokens alone say so of signed ones (oidc-provider 9).
        return TokenRefused(Refusal.NOT_ACCEPTED)
    if response.status != 200:
        raise FetchError(f"introspection answered {response.status}")
    if claims is None or "active" not in claims:
        raise FetchError('the answer of introspection is not a JSON object with "active"')
    if claims["active"] is not True:
        return TokenRefused(Refusal.INACTIVE)
    named = claims.get("iss") is not None
    if not named and rules.issuer is not None:
        # It is the one that was asked.
        claims["iss"] = rules.issuer
    described = rules.judge(claims, now)
    if not named and rules.issuer is None:
        # Callers of two issuers could be one principal if nothing stood for theirs.
        claims["iss"] = url
    return TokenRefused(described) if isinstance(described, Refusal) else described.with_token(token)


def _credentials(
    client_id: str, client_secret: str, method: AuthMethod
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Headers and form fields that say who asks (RFC 6749 §2.3.1)."""
    match method:
        case "client_secret_basic":
            # Both parts are form-encoded first; servers that do not decode them agree for plain characters.
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}".encode()
            return [("Authorization", f"Basic {base64.b64encode(pair).decode()}")], []
        case "client_secret_post":
            return [], [("client_id", client_id), ("client_secret", client_secret)]
        case _:
            raise AuthConfigurationError(f"auth_method is client_secret_basic or client_secret_post, not {method!r}")
