"""Authorization from settings: plain values in, a `BearerAuth` out, and an error that names the setting for what cannot work.

| `TRIO_MCP_AUTH_ISSUER` (several)       | `JWTVerifier` for each                        |
| `TRIO_MCP_AUTH_INTROSPECTION_URL`      | `IntrospectionVerifier`                       |
| `TRIO_MCP_AUTH_TOKENS`                 | `StaticTokenVerifier`                         |
| more than one of them                  | `MultiAuth`                                   |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trio_mcp.auth.bearer import MAX_TOKEN_BYTES
from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.claim_rules import LEEWAY_SECONDS
from trio_mcp.auth.errors import AuthConfigurationError, no_file
from trio_mcp.auth.fetching import Fetch, http_fetch
from trio_mcp.auth.introspection import CACHE_SECONDS, IntrospectionVerifier
from trio_mcp.auth.jwt_verifier import JWTVerifier
from trio_mcp.auth.multi_auth import MultiAuth
from trio_mcp.auth.static_tokens import read_token_file
from trio_mcp.auth.verifier import Verifier

__all__ = ["AuthOptions", "bearer_auth"]


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """The settings by name, without their prefix `TRIO_MCP_AUTH_`; empty means that one is not set."""

    issuer: Sequence[str] = ()
    resource: str = ""
    audience: Sequence[str] = ()
    audience_claim: str = "aud"
    jwks_uri: str = ""
    public_key: Path | None = None
    algorithms: Sequence[str] = ()
    leeway: float = LEEWAY_SECONDS
    """In seconds."""
    max_token: int = MAX_TOKEN_BYTES
    """In bytes."""
    require_type: str = ""
    required_scopes: Sequence[str] = ()
    challenge_scopes: Sequence[str] = ()
    scopes_supported: Sequence[str] = ()
    introspection_url: str = ""
    introspection_client_id: str = ""
    introspection_client_secret: str = ""
    introspection_cache: float = CACHE_SECONDS
    """In seconds."""
    tokens: Path | None = None
    legacy_metadata: bool = False
    streams_expire: bool = True


def bearer_auth(options: AuthOptions, *, fetch: Fetch = http_fetch) -> BearerAuth | None:
    """What the settings ask for; None when none of them turns authorization on.

    Raises AuthConfigurationError, whose text names the setting to change.
    """
    verifiers = [*_verifiers(options, fetch)]
    if not verifiers:
        _refuse_settings_without_effect(options)
        return None
    return BearerAuth(
        verifiers[0] if len(verifiers) == 1 else MultiAuth(*verifiers),
        resource=options.resource or None,
        authorization_servers=options.issuer or None,
        required_scopes=options.required_scopes,
        challenge_scopes=options.challenge_scopes or None,
        scopes_supported=options.scopes_supported or None,
        legacy_metadata=options.legacy_metadata,
        stream_until_expiry=options.streams_expire,
        max_token=options.max_token,
        leeway=options.leeway,
    )


def _verifiers(options: AuthOptions, fetch: Fetch) -> Iterator[Verifier]:
    if len(options.issuer) > 1 and (options.jwks_uri or options.public_key):
        raise AuthConfigurationError(
            "TRIO_MCP_AUTH_JWKS_URI and TRIO_MCP_AUTH_PUBLIC_KEY go with one TRIO_MCP_AUTH_ISSUER: leave them out for several"
        )
    for issuer in options.issuer:
        yield _signed(options, issuer, fetch)
    if options.introspection_url:
        yield _introspected(options, fetch)
    if options.tokens is not None:
        yield read_token_file(options.tokens)


def _signed(options: AuthOptions, issuer: str, fetch: Fetch) -> Verifier:
    return JWTVerifier(
        issuer=issuer,
        audience=options.audience or None,
        jwks_uri=options.jwks_uri or None,
        public_key=None if options.public_key is None else _read_key(options.public_key),
        algorithms=options.algorithms or None,
        leeway=options.leeway,
        require_type=options.require_type or None,
        audience_claim=options.audience_claim,
        max_token=options.max_token,
        fetch=fetch,
    )


def _introspected(options: AuthOptions, fetch: Fetch) -> Verifier:
    if not options.issuer:
        raise AuthConfigurationError(
            "TRIO_MCP_AUTH_INTROSPECTION_URL needs TRIO_MCP_AUTH_ISSUER: clients are told to get their tokens there"
        )
    if not options.introspection_client_id or not options.introspection_client_secret:
        raise AuthConfigurationError(
            "set TRIO_MCP_AUTH_INTROSPECTION_CLIENT_ID and TRIO_MCP_AUTH_INTROSPECTION_CLIENT_SECRET: the server must know who asks"
        )
    return IntrospectionVerifier(
        options.introspection_url,
        client_id=options.introspection_client_id,
        client_secret=options.introspection_client_secret,
        audience=options.audience or None,
        issuer=options.issuer,
        cache=options.introspection_cache,
        leeway=options.leeway,
        fetch=fetch,
    )


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AuthConfigurationError(f"TRIO_MCP_AUTH_PUBLIC_KEY: {no_file(path)}") from error
    except OSError as error:
        raise AuthConfigurationError(f"TRIO_MCP_AUTH_PUBLIC_KEY: {path} cannot be read: {error.strerror}") from error


def _refuse_settings_without_effect(options: AuthOptions) -> None:
    """A setting that protects nothing must not look as if it did."""
    settings = {
        "TRIO_MCP_AUTH_RESOURCE": options.resource,
        "TRIO_MCP_AUTH_AUDIENCE": options.audience,
        "TRIO_MCP_AUTH_JWKS_URI": options.jwks_uri,
        "TRIO_MCP_AUTH_PUBLIC_KEY": options.public_key,
        "TRIO_MCP_AUTH_REQUIRED_SCOPES": options.required_scopes,
        "TRIO_MCP_AUTH_CHALLENGE_SCOPES": options.challenge_scopes,
        "TRIO_MCP_AUTH_SCOPES_SUPPORTED": options.scopes_supported,
    }
    given = [name for name, value in settings.items() if value]
    if given:
        raise AuthConfigurationError(
            f"{given[0]} is set, but nothing verifies tokens: set TRIO_MCP_AUTH_ISSUER, TRIO_MCP_AUTH_INTROSPECTION_URL or TRIO_MCP_AUTH_TOKENS"
        )
