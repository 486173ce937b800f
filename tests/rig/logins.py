"""Access tokens of a real authorization server as clients hold them: got by a login or by credentials, and renewed when they end."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit

import trio

from tests.rig.authorization_server import MACHINE, REGISTERED, AuthorizationServer, Credentials
from tests.rig.browser import log_in
from trio_mcp.http_client import HttpClientError

__all__ = ["Held", "logged_in", "machine"]

REDIRECT = "http://127.0.0.1/callback"
SCOPES = "openid offline_access mcp:read"
EARLY_SHARE = 0.75
"""Of its life, after which an eager client renews a token. The others wait for a 401."""

Grant: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
"""Asks the token endpoint, and gives its answer. Raises OSError without one."""


class Held:
    """One client's token. `eager` renews it before it ends, as some clients do; others wait for a 401."""

    def __init__(self, grant: Grant, first: dict[str, Any] | None = None, *, eager: bool = False) -> None:
        self.renewals = 0
        """How often a new one was got in place of another."""
        self.refused = 0
        """How often one was answered with a 401."""
        self.issued: list[str] = []
        """All that it has had, refresh tokens as well."""
        self._grant = grant
        self._eager = eager
        self._lock = trio.Lock()
        self._token, self._early_at = "", 0.0
        if first is not None:
            self._take(first)

    async def current(self) -> str:
        """The token to send. Raises OSError when there is none to be had."""
        if not self._token or (self._eager and time.time() >= self._early_at):
            await self._renew(self._token)
        return self._token

    async def renewed(self, refused: str) -> bool:
        """Get another one after a 401; True when there is one."""
        self.refused += 1
        try:
            await self._renew(refused)
        except OSError:
            return False
        return True

    async def _renew(self, old: str) -> None:
        async with self._lock:
            if self._token == old:
                self._take(await self._grant())
                self.renewals += bool(old)

    def _take(self, answer: dict[str, Any]) -> None:
        self._token = answer["access_token"]
        self._early_at = time.time() + EARLY_SHARE * answer["expires_in"]
        self.issued += [answer[name] for name in ("access_token", "refresh_token", "id_token") if name in answer]


async def logged_in(server: AuthorizationServer, resource: str, person: str, *, eager: bool = False) -> Held:
    """The token of a person who has just logged in; it is renewed by its refresh token."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": REGISTERED.client_id,
        "redirect_uri": REDIRECT,
        "scope": SCOPES,
        "prompt": "consent",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "resource": resource,
    }
    url = f"{server.issuer}/auth?{urlencode(query)}"
    place, _ = await trio.to_thread.run_sync(partial(log_in, url, person, stop=REDIRECT))
    code = {"grant_type": "authorization_code", "code": parse_qs(urlsplit(place).query)["code"][0]}
    code |= {"redirect_uri": REDIRECT, "code_verifier": verifier, "resource": resource}
    answer = await _granted(server, code, REGISTERED)

    async def refresh() -> dict[str, Any]:
        nonlocal answer
        form = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"], "resource": resource}
        answer = {**answer, **await _granted(server, form, REGISTERED)}
        return answer

    return Held(refresh, answer, eager=eager)


def machine(server: AuthorizationServer, resource: str, *, eager: bool = False) -> Held:
    """A token of the machine, got by its credentials when it is first asked for and when it has ended."""
    form = {"grant_type": "client_credentials", "resource": resource, "scope": "mcp:read"}
    return Held(partial(_granted, server, form, MACHINE), eager=eager)


async def _granted(server: AuthorizationServer, form: dict[str, str], client: Credentials) -> dict[str, Any]:
    try:
        answer = await server.post("/token", form, client)
    except HttpClientError as error:
        raise OSError(f"no token: {error}") from error
    if answer.status != 200:
        raise OSError(f"no token: {answer.status} {answer.body!r}")
    found: dict[str, Any] = json.loads(answer.body)
    return found
