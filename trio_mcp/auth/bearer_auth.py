"""`BearerAuth`: from the `Authorization` headers of a request to who may do what, or to the answer that refuses it.

headers ─▶ read_bearer ─▶ verifier.judge ─▶ admit: expiry, resource, principal, server-wide scopes ─▶ Allowed
               │               │  │                                   │
               ▼               │  └─ CannotTell ─▶ Unavailable (503)   ▼
            Refused (400, 401) ▼                                    Refused (401, 403)
                            Refused (401)

Allowed.token, requirements of the components ─▶ refusal_for ─▶ None | Refused (403)
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from trio_mcp.auth.bearer import MAX_TOKEN_BYTES, read_bearer
from trio_mcp.auth.challenge import refusal_headers
from trio_mcp.auth.checks import Check, Forbidden, LacksScopes, Requirements, judge_all, requirements
from trio_mcp.auth.claim_rules import LEEWAY_SECONDS
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.known_caller import KnownCaller
from trio_mcp.auth.metadata import ResourceMetadata
from trio_mcp.auth.principal import CannotTell, Principal
from trio_mcp.auth.protection import CountJudgement, protected
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.resource import check_url, metadata_url
from trio_mcp.auth.scopes import ScopeHierarchy, check_scopes, union
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken, principal_of
from trio_mcp.auth.verifier import TokenVerifier, Verdict, Verifier, judge_token

__all__ = ["BearerAuth"]

_SCHEME = "Bearer "
STREAM_SPREAD_SECONDS = 10.0
"""Streams whose tokens expire together end over so much time, so that their clients do not come back all at once."""


class BearerAuth:
    """Makes a server an OAuth 2.1 resource server (MCP 2025-06-18 and later, authorization).

    Args:
        verifier: Verifies tokens: one of ours, or any object with the `verify_token` of the official Python SDK.
        resource: The public URL of the server, exactly as clients are told to use it. It is never derived from requests.
            May be left out while the server listens on loopback only.
        authorization_servers: The issuers that clients may get tokens from; those of the verifier by default.
        required_scopes: What every request needs.
        challenge_scopes: What a 401 tells clients to ask for; `required_scopes` by default. They differ where the
            authorization server wants other names than it writes into tokens (Entra: `api://…/x`).
        scopes_supported: What the metadata lists; `required_scopes` by default.
        scope_implies: Which scopes include which, such as `{"mcp:admin": ["mcp:write"]}`.
        resource_name: The name of the server for people, in the metadata.
        resource_documentation: The URL of a page for people, in the metadata.
        legacy_metadata: Serve a copy of the authorization server's own metadata, for clients of 2025-03-26.
        stream_until_expiry: End standing streams after their token expired.
        max_token: Bytes above which a token is refused unread.
        leeway: Seconds that clocks may differ, for the expiry of tokens from verifiers that are not ours, and for streams.
        now: The clock that tokens are judged by, Unix time in seconds.

    Raises:
        AuthConfigurationError: What is given cannot work; the text says what to set.
    """

    def __init__(
        self,
        verifier: TokenVerifier | Verifier,
        *,
        resource: str | None = None,
        authorization_servers: Sequence[str] | None = None,
        required_scopes: Iterable[str] = (),
        challenge_scopes: Iterable[str] | None = None,
        scopes_supported: Iterable[str] | None = None,
        scope_implies: Mapping[str, Iterable[str]] | None = None,
        resource_name: str = "",
        resource_documentation: str = "",
        legacy_metadata: bool = False,
        stream_until_expiry: bool = True,
        max_token: int = MAX_TOKEN_BYTES,
        leeway: float = LEEWAY_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.verifier = verifier
        self.required_scopes: tuple[str, ...] = check_scopes(
            required_scopes, "required_scopes", offered=challenge_scopes is None
        )
        self.challenge_scopes: tuple[str, ...] = _chosen_scopes(
            challenge_scopes, "challenge_scopes", self.required_scopes
        )
        self.hierarchy: ScopeHierarchy = ScopeHierarchy.of(scope_implies or {})
        self.authorization_servers: tuple[str, ...] = _authorization_servers(authorization_servers, verifier)
        self.legacy_metadata = legacy_metadata
        self.stream_until_expiry = stream_until_expiry
        self.resource: str | None = None
        """The URL of the server; None until it is known."""
        self.metadata: ResourceMetadata | None = None
        """What the well-known paths answer; None before `bind`, and without an authorization server."""
        self._scopes_supported = _chosen_scopes(scopes_supported, "scopes_supported", self.required_scopes)
        self._names = (resource_name, resource_documentation)
        self._metadata_url = ""
        self._max_token = max_token
        self._leeway = leeway
        self.now: Callable[[], float] = now
        """The clock that tokens are judged by, Unix time in seconds."""
        self._runs = trio.Lock()
        self._count: CountJudgement = lambda outcome, reason, seconds: None
        if resource is not None:
            self._take_resource(check_url(resource, "resource"))

    @classmethod
    def from_issuer(
        cls,
        issuer: str | Sequence[str],
        *,
        resource: str | None = None,
        audience: str | Iterable[str] | None = None,
        required_scopes: Iterable[str] = (),
        challenge_scopes: Iterable[str] | None = None,
        scopes_supported: Iterable[str] | None = None,
        scope_implies: Mapping[str, Iterable[str]] | None = None,
        resource_name: str = "",
        algorithms: Sequence[str] | None = None,
        leeway: float = LEEWAY_SECONDS,
        require_type: str | None = None,
    ) -> BearerAuth:
        """For signed tokens of one issuer or several, whose metadata says where their keys are.

        The arguments are those of `BearerAuth` and `JWTVerifier`. Raises AuthConfigurationError.
        """
        from trio_mcp.auth.jwt_verifier import JWTVerifier
        from trio_mcp.auth.multi_auth import MultiAuth

        names = [issuer] if isinstance(issuer, str) else [*issuer]
        if not names:
            raise AuthConfigurationError("issuer is empty: set it to the URL of the authorization server")
        accepted = audience if audience is None or isinstance(audience, str) else [*audience]
        verifiers = [
            JWTVerifier(issuer=name, audience=accepted, algorithms=algorithms, leeway=leeway, require_type=require_type)
            for name in names
        ]
        return cls(
            verifiers[0] if len(verifiers) == 1 else MultiAuth(*verifiers),
            resource=resource,
            required_scopes=required_scopes,
            challenge_scopes=challenge_scopes,
            scopes_supported=scopes_supported,
            scope_implies=scope_implies,
            resource_name=resource_name,
            leeway=leeway,
        )

    def bind(self, default: str | None) -> None:
        """Settle the resource before the first request. `default` is the URL of a server that listens on loopback only.

        Raises AuthConfigurationError where no resource was given and there is no default either.
        """
        if self.resource is not None:
            return
        if default is None:
            raise AuthConfigurationError(
                "set resource (--auth-resource) to the public URL of the server: it is clear only for one node that listens on "
                "a port of loopback"
            )
        self._take_resource(default)

    @property
    def ready(self) -> bool:
        """Whether tokens can be judged; the node is not ready before."""
        return self.verifier.ready if isinstance(self.verifier, Verifier) else True

    async def wait_ready(self) -> None:
        """Wait until `ready`; `run` must be running."""
        if isinstance(self.verifier, Verifier):
            await self.verifier.wait_ready()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the keys fresh; `started` after the first attempt to get them.

        Where several apps share this object (a server and one that is mounted in it), the first one does the work, and when it
        ends the next. Raises AuthConfigurationError when the authorization server contradicts the configuration.
        """
        if not isinstance(self.verifier, Verifier):
            return task_status.started()
        if self._runs.locked():
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
        async with self._runs:
            await self.verifier.run(task_status=task_status)

    async def judge(self, authorization: Sequence[str]) -> Judgement:
        """Who sent a request with these `Authorization` headers (all of them), and whether the server may serve it.

        Raises what a verifier of the user raises beside CannotTell.
        """
        token = read_bearer(authorization, max_bytes=self._max_token)
        if isinstance(token, Refusal):
            return self._refused(token)
        try:
            verdict = await judge_token(self.verifier, token, self.resource)
        except CannotTell as error:
            return Unavailable(str(error))
        return self.admit(verdict)

    def judge_now(self, authorization: Sequence[str]) -> Judgement | None:
        """As `judge` where that needs no waiting, as for a token that was verified before; None where it may."""
        if not isinstance(self.verifier, Verifier):
            return None
        known = _known(self.verifier, authorization)
        if known is not None:
            return self.admit(known)
        token = read_bearer(authorization, max_bytes=self._max_token)
        if isinstance(token, Refusal):
            return self._refused(token)
        try:
            verdict = self.verifier.judge_now(token)
        except CannotTell as error:
            return Unavailable(str(error))
        return None if verdict is None else self.admit(verdict)

    def known(self, allowed: Allowed) -> KnownCaller | None:
        """What judges the token of `allowed` from now on; None where it has to be judged anew each time."""
        stands = self.verifier.standing(allowed.token.token) if isinstance(self.verifier, Verifier) else None
        if stands is None:
            return None
        expires = allowed.token.expires_at
        return KnownCaller(allowed, stands, math.inf if expires is None else expires + self._leeway, self.now)

    def admit(self, verdict: Verdict) -> Allowed | Refused:
        """What follows from the verdict on a token: pure but for the clock."""
        if isinstance(verdict, TokenRefused):
            return self._refused(verdict.reason, {"kid": verdict.kid, "iss": verdict.issuer})
        principal = principal_of(verdict)
        if principal is None:
            return self._refused(Refusal.IDENTITY)
        if verdict.expires_at is not None and self.now() >= verdict.expires_at + self._leeway:
            return self._refused(Refusal.EXPIRED, _told(principal))
        if self.hierarchy.lacking(verdict.scopes, self.required_scopes):
            description = f"This server needs {' '.join(self.required_scopes)}"
            return self._refused(Refusal.SCOPE, _told(principal), description=description)
        return Allowed(verdict, principal)

    def refusal_for(self, asked: Iterable[Requirements], token: AccessToken | None, what: str) -> Refused | None:
        """The 403 for a request that uses components with these requirements; None where it may be served.

        `what` names them in the description, such as the name of a tool. For a batch, `asked` are those of all its elements.
        """
        match judge_all(asked, token, self.hierarchy):
            case LacksScopes(needed, lacking):
                return self._refused(
                    Refusal.SCOPE,
                    {} if token is None else _told(principal_of(token)),
                    description=f"{what} needs {' '.join(lacking)}",
                    scopes=union(self.challenge_scopes, needed),
                )
            case Forbidden():
                return self._refused(Refusal.FORBIDDEN, {} if token is None else _told(principal_of(token)))
            case _:
                return None

    def protect(
        self, handler: Callable[[Any], Any], *, auth: Check | Sequence[Check] | None = None
    ) -> Callable[[Any], Awaitable[Any]]:
        """A handler for `@mcp.custom_route` that runs only for requests with a good token: `mcp.custom_route("/x")(auth.protect(fn))`.

        `auth` is what else the token must have, as for a tool. Within the handler `get_access_token()` is the token. What is
        judged is counted in the metrics of the last app that was made with this object. Raises AuthConfigurationError for
        what is no condition.
        """
        return protected(self, handler, requirements(auth), lambda *judged: self._count(*judged))

    def count_judgements_with(self, count: CountJudgement) -> None:
        """Call `count` for each token that is judged for a handler of `protect`."""
        self._count = count

    def stream_ends_at(self, token: AccessToken, share: float) -> float | None:
        """When a standing stream opened with `token` ends, in Unix time; None for never.

        `share`, from 0 to 1, is chosen at random by the caller for each stream.
        """
        return self.refused_from(token, share) if self.stream_until_expiry else None

    def refused_from(self, token: AccessToken, share: float) -> float | None:
        """When a connection that was opened with `token` ends, in Unix time; None for never. `share` as for `stream_ends_at`."""
        return None if token.expires_at is None else token.expires_at + self._leeway + share * STREAM_SPREAD_SECONDS

    @property
    def legacy_document(self) -> bytes | None:
        """What `/.well-known/oauth-authorization-server` answers to clients of 2025-03-26; None for a 404."""
        if not self.legacy_metadata or not isinstance(self.verifier, Verifier):
            return None
        return self.verifier.issuer_document

    def _take_resource(self, resource: str) -> None:
        self.resource = resource
        if isinstance(self.verifier, Verifier):
            self.verifier.bind(resource)
        if self.authorization_servers:
            self._metadata_url = metadata_url(resource)
            name, documentation = self._names
            self.metadata = ResourceMetadata(
                resource,
                self.authorization_servers,
                scopes_supported=self._scopes_supported,
                resource_name=name,
                resource_documentation=documentation,
            )

    def _refused(
        self,
        reason: Refusal,
        told: Mapping[str, str | None] | None = None,
        *,
        description: str = "",
        scopes: Sequence[str] | None = None,
    ) -> Refused:
        headers = refusal_headers(
            reason,
            scopes=self.challenge_scopes if scopes is None else scopes,
            resource_metadata=self._metadata_url,
            description=description,
        )
        fields = {name: value[:128] for name, value in (told or {}).items() if value}
        return Refused(reason, description or reason.description, headers, fields)


def _told(principal: Principal | None) -> dict[str, str | None]:
    """What a log line says of a verified caller: no claim but the client, and a part of the digest."""
    if principal is None:
        return {}
    return {"client": principal.client_id, "principal": principal.log_name}


def _chosen_scopes(scopes: Iterable[str] | None, what: str, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if scopes is None else check_scopes(scopes, what)


def _authorization_servers(given: Sequence[str] | None, verifier: TokenVerifier | Verifier) -> tuple[str, ...]:
    if given is not None:
        return tuple(check_url(each, "authorization_servers") for each in given)
    issuers = verifier.issuers if isinstance(verifier, Verifier) else ()
    if not issuers and not isinstance(verifier, StaticTokenVerifier):
        # RFC 9728 and MCP 2025-06-18 authorization-server-location: at least one entry.
        raise AuthConfigurationError("set authorization_servers to the URLs of those that issue the tokens")
    return issuers


def _known(verifier: Verifier, authorization: Sequence[str]) -> AccessToken | None:
    """A token that was accepted before, letter by letter: to read it again would cost as much as all the rest."""
    if len(authorization) != 1 or not authorization[0].startswith(_SCHEME):
        return None
    try:
        verdict = verifier.judge_now(authorization[0][len(_SCHEME) :])
    except CannotTell:
        return None
    return verdict if isinstance(verdict, AccessToken) else None
