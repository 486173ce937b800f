"""Tokens from the configuration: for continuous integration and tests, compared in constant time."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from trio_mcp.auth.bearer import read_bearer
from trio_mcp.auth.errors import AuthConfigurationError, no_file
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.scopes import check_scopes
from trio_mcp.auth.token_cache import token_digest
from trio_mcp.auth.tokens import AccessToken, principal_of
from trio_mcp.auth.verifier import Verdict, Verifier

__all__ = ["StaticTokenVerifier", "read_token_file"]


STATIC_ISSUER = "urn:trio-mcp:static"
"""Who issued tokens of the configuration, where their description does not say."""


class StaticTokenVerifier(Verifier):
    """Verifies tokens that are listed in the configuration. Only their SHA-256 is kept.

    Args:
        tokens: The description by token, such as `{os.environ["CI_TOKEN"]: AccessToken(client_id="ci", scopes=["mcp:read"])}`.

    Raises:
        AuthConfigurationError: For a token that no `Authorization` header can hold, and for one that names nobody.
    """

    def __init__(self, tokens: Mapping[str, AccessToken]) -> None:
        for token, described in tokens.items():
            if read_bearer([f"Bearer {token}"]) != token:
                raise AuthConfigurationError(
                    "a static token is empty, too long, or has characters that no token may have"
                )
            if principal_of(described) is None:
                raise AuthConfigurationError(
                    "a static token needs a client_id or a subject, so that it stands for somebody"
                )
            check_scopes(described.scopes, "scopes of a static token", offered=False)
        self._tokens = [(token_digest(token), _with_issuer(described)) for token, described in tokens.items()]

    async def judge(self, token: str) -> Verdict:
        """The description of the token."""
        # Not `self.judge_now`: a class that judges by more has none.
        return StaticTokenVerifier.judge_now(self, token)

    def judge_now(self, token: str) -> Verdict:
        """The same."""
        digest = token_digest(token)
        # All are compared, whichever fits: the time says nothing about how far a guess was right.
        found = [described for known, described in self._tokens if hmac.compare_digest(known, digest)]
        return found[0].with_token(token) if found else TokenRefused(Refusal.NOT_ACCEPTED)

    def standing(self, token: str) -> Callable[[], bool]:
        """For good: these tokens do not change."""
        return lambda: True


def _with_issuer(described: AccessToken) -> AccessToken:
    """With an issuer of its own: else a client that an authorization server does not name an issuer for could be the same caller."""
    claims = described.claims or {}
    return described if "iss" in claims else replace(described, claims={**claims, "iss": STATIC_ISSUER})


def read_token_file(path: Path) -> StaticTokenVerifier:
    """The tokens in a file: one a line, `token client scope scope …`; `#` begins a comment.

    Raises AuthConfigurationError when others than the owner may read it, or a line has no client, or there is none. Errors name the line by
    its number and never quote it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise AuthConfigurationError(f"{path} can be read by others: chmod 600 {path}")
            lines = file.read().splitlines()
    except FileNotFoundError as error:
        raise AuthConfigurationError(no_file(path)) from error
    except OSError as error:
        raise AuthConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AuthConfigurationError(f"{path} cannot be read: it is not text in UTF-8") from error
    tokens: dict[str, AccessToken] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise AuthConfigurationError(f"{path}:{number} needs a token and a client id")
        token, client, *scopes = words
        tokens[token] = AccessToken(client_id=client, scopes=scopes)
    if not tokens:
        raise AuthConfigurationError(f"{path} has no token: write a line `token client scopes`")
    return StaticTokenVerifier(tokens)
