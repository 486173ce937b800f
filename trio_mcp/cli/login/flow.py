"""A login from beginning to end: find the authorization server, be known to it, get a token; and later another one."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import trio

from trio_mcp.auth.challenge_reader import BearerChallenge, read_challenge
from trio_mcp.auth.discovery import metadata_urls
from trio_mcp.auth.errors import FetchError
from trio_mcp.auth.fetching import Fetch, Response, fetch_within
from trio_mcp.auth.resource import check_url, is_loopback
from trio_mcp.cli.login.callback import callback
from trio_mcp.cli.login.discovery import (
    AuthorizationServer,
    LoginError,
    ProtectedResource,
    places_of_metadata,
    read_authorization_server,
    read_protected_resource,
    scopes_to_ask_for,
)
from trio_mcp.cli.login.requests import (
    Client,
    Tokens,
    authorization_url,
    choose_registration,
    read_callback,
    read_registration,
    read_tokens,
    registration_document,
    token_request,
)
from trio_mcp.cli.login.token_store import Grant
from trio_mcp.http_client import Headers, HttpClient, read_body
from trio_mcp.http_proxy import proxy_for

__all__ = ["Found", "LoginOptions", "fetch_with", "find", "log_in", "renew", "revoke"]

MAX_ANSWER_BYTES = 256 * 1024
_PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_JSON = ("Content-Type", "application/json")
_ACCEPTS = ("Accept", "application/json, text/event-stream")


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """What the command line says about a login."""

    client_id: str | None = None
    client_secret: str = field(default="", repr=False)
    metadata_url: str | None = None
    scope: str | None = None
    issuer: str | None = None
    by_credentials: bool = False
    patience: float = 300.0
    """Seconds that the person has."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where to log in, and what the server asked for."""

    resource: ProtectedResource
    server: AuthorizationServer
    challenge: BearerChallenge | None


def fetch_with(server: str, *, insecure: bool) -> Fetch:
    """The way to all servers of a login. `insecure` takes any certificate of the host of `server`, and of loopback.

    The authorization server gets secrets that are worth more than one token: on another host it must prove who it is.
    """
    host = urlsplit(server).hostname

    async def fetch(method: str, url: str, headers: Headers, body: bytes) -> Response:
        asked = urlsplit(url).hostname or ""
        unchecked = insecure and (asked == host or is_loopback(asked))
        client = HttpClient(url, insecure=unchecked, proxy=proxy_for(url, os.environ))
        async with client.exchange(method, headers, body) as exchange:
            head = await exchange.head()
            return Response(head.status, await read_body(exchange.receive, MAX_ANSWER_BYTES), head.headers)

    return fetch


async def find(fetch: Fetch, url: str, issuer: str | None = None) -> Found:
    """Ask the server at `url` where to log in, and that place how. Raises LoginError, FetchError."""
    check_url(url, "URL")
    answer = await fetch_within(fetch, "POST", url, [_JSON, _ACCEPTS], _PING)
    challenge = read_challenge([answer.headers.get("www-authenticate", "")])
    resource = await _resource(fetch, url, challenge, answer.status)
    return Found(resource, await _server(fetch, check_url(resource.issuer(issuer), "issuer")), challenge)


_ANSWERED = (200, 202, 400)
"""What a server without authorization answers to a ping outside of a session."""


async def _resource(fetch: Fetch, url: str, challenge: BearerChallenge | None, status: int) -> ProtectedResource:
    tried = []
    for place in places_of_metadata(url, challenge):
        answer = await fetch_within(fetch, "GET", place, [("Accept", "application/json")])
        if answer.status == 200:
            return read_protected_resource(answer.body, url)
        tried.append(f"{answer.status} for {place}")
    if status in _ANSWERED:
        raise LoginError(f"{url} asks for no token: use it without a login")
    asked = "wants a token" if status == 401 else f"answers {status} without a token"
    raise LoginError(
        f"{url} {asked}, and does not say where to get one ({', '.join(tried)}): send "
        "one that its operator has given you with --bearer @file"
    )


async def _server(fetch: Fetch, issuer: str) -> AuthorizationServer:
    tried = []
    for place in metadata_urls(issuer):
        answer = await fetch_within(fetch, "GET", place, [("Accept", "application/json")])
        if answer.status == 200:
            return read_authorization_server(answer.body, issuer)
        tried.append(f"{answer.status} for {place}")
    raise LoginError(f"there is no metadata of {issuer}: {', '.join(tried)}")


async def log_in(fetch: Fetch, found: Found, options: LoginOptions, show: Callable[[str], Awaitable[None]]) -> Grant:
    """Get a token; `show` brings the person to the URL of the login page. Raises LoginError, FetchError."""
    scopes = scopes_to_ask_for(options.scope, found.challenge, found.resource, found.server)
    if options.by_credentials:
        scopes = tuple(each for each in scopes if each != "offline_access")
        client = _machine(found.server, options)
        tokens = await _by_credentials(fetch, found.server.token_endpoint, client, found.resource.resource, scopes)
    else:
        client, tokens = await _by_browser(fetch, found, options, scopes, show)
    return Grant(
        resource=found.resource.resource,
        issuer=found.server.issuer,
        token_endpoint=found.server.token_endpoint,
        revocation_endpoint=found.server.revocation_endpoint,
        client_id=client.client_id,
        client_secret=client.client_secret,
        auth_method=client.auth_method,
        access_token="",
        by_credentials=options.by_credentials,
    ).renewed(tokens, time.time())


def _machine(server: AuthorizationServer, options: LoginOptions) -> Client:
    if options.client_id is None or not options.client_secret:
        raise LoginError("--client-credentials needs --client-id and --client-secret")
    chosen = choose_registration(
        server, client_id=options.client_id, client_secret=options.client_secret, metadata_url=None
    )
    assert chosen is not None  # a client id was given
    return chosen


async def _by_browser(
    fetch: Fetch,
    found: Found,
    options: LoginOptions,
    scopes: tuple[str, ...],
    show: Callable[[str], Awaitable[None]],
) -> tuple[Client, Tokens]:
    server, resource = found.server, found.resource.resource
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    chosen = choose_registration(
        server,
        client_id=options.client_id,
        client_secret=options.client_secret,
        metadata_url=options.metadata_url,
    )
    async with callback() as listener:
        client = chosen or await _register(fetch, server, listener.uri, scopes)
        url = authorization_url(
            server,
            client,
            redirect_uri=listener.uri,
            resource=resource,
            scopes=scopes,
            state=state,
            verifier=verifier,
        )
        code = await _code(
            partial(listener.code, partial(read_callback, server=server, state=state)), url, options, show
        )
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": listener.uri,
            "code_verifier": verifier,
            "resource": resource,
        }
        return client, await _tokens(fetch, server.token_endpoint, client, fields, scopes)


async def _code(
    wait: Callable[[], Awaitable[str]], url: str, options: LoginOptions, show: Callable[[str], Awaitable[None]]
) -> str:
    """The code that comes back, while the person is at the login page."""
    try:
        with trio.fail_after(options.patience):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(show, url)
                code = await wait()
                nursery.cancel_scope.cancel()
            return code
    except trio.TooSlowError as error:
        raise LoginError(f"nobody came back from the login page within {options.patience:g} s") from error


async def _register(fetch: Fetch, server: AuthorizationServer, redirect_uri: str, scopes: tuple[str, ...]) -> Client:
    document = json.dumps(registration_document(redirect_uri, scopes)).encode()
    answer = await fetch_within(fetch, "POST", server.registration_endpoint, [_JSON], document)
    return read_registration(answer.status, answer.body)


async def renew(fetch: Fetch, grant: Grant) -> Grant:
    """The grant with its next token. Raises LoginError when the authorization server gives none, FetchError when it is away."""
    if grant.by_credentials:
        tokens = await _by_credentials(fetch, grant.token_endpoint, grant.client, grant.resource, grant.scopes)
    else:
        fields = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "resource": grant.resource}
        tokens = await _tokens(fetch, grant.token_endpoint, grant.client, fields, grant.scopes)
    return grant.renewed(tokens, time.time())


async def revoke(fetch: Fetch, grant: Grant) -> None:
    """Tell the authorization server that the tokens are not needed any more (RFC 7009). Raises FetchError when it cannot be told."""
    token = grant.refresh_token or grant.access_token
    headers, body = token_request(grant.client, {"token": token})
    answer = await fetch_within(fetch, "POST", grant.revocation_endpoint, headers, body)
    if answer.status != 200:
        raise FetchError(f"{grant.issuer} answered {answer.status}")


async def _by_credentials(
    fetch: Fetch, endpoint: str, client: Client, resource: str, scopes: tuple[str, ...]
) -> Tokens:
    fields = {"grant_type": "client_credentials", "resource": resource, "scope": " ".join(scopes)}
    return await _tokens(fetch, endpoint, client, fields, scopes)


async def _tokens(
    fetch: Fetch, endpoint: str, client: Client, fields: Mapping[str, str], scopes: tuple[str, ...]
) -> Tokens:
    headers, body = token_request(client, fields)
    answer = await fetch_within(fetch, "POST", endpoint, headers, body)
    return read_tokens(answer.status, answer.body, scopes)
