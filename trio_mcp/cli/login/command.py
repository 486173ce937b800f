"""`login` and `logout`: get a token for a server and keep it; forget it."""

from __future__ import annotations

import os
import webbrowser
from datetime import UTC, datetime
from typing import Annotated

import trio
from cyclopts import Parameter

from trio_mcp.auth.errors import FetchError
from trio_mcp.cli.arguments import Insecure, UsageError
from trio_mcp.cli.credentials import read_secret
from trio_mcp.cli.login.flow import LoginOptions, fetch_with, find, log_in, revoke
from trio_mcp.cli.login.token_store import Grant, TokenStore
from trio_mcp.cli.output import print_note
from trio_mcp.observability.logs import printable

__all__ = ["login", "logout"]


def login(
    url: str,
    /,
    *,
    client_id: Annotated[str | None, Parameter(help="A client that is registered at the authorization server.")] = None,
    client_secret: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Its secret: `@file`, `-` for stdin; or set TRIO_MCP_CLIENT_SECRET."),
    ] = None,
    client_metadata_url: Annotated[
        str | None, Parameter(help="The URL of a client metadata document, for servers that take one as a client's id.")
    ] = None,
    scope: Annotated[str | None, Parameter(help="Scopes to ask for; those the server names unless given.")] = None,
    issuer: Annotated[str | None, Parameter(help="Which authorization server, if the server names several.")] = None,
    client_credentials: Annotated[
        bool, Parameter(negative=(), show_default=False, help="For machines: by client id and secret alone.")
    ] = False,
    browser: Annotated[bool, Parameter(help="Open the login page; it is printed in any case.")] = True,
    timeout: Annotated[float, Parameter(help="Give up when nobody has logged in after this many seconds.")] = 300.0,
    insecure: Insecure = False,
) -> int:
    """Log in for a server: `list`, `call`, `read`, `prompt`, `inspect` and `check` then send its token, and renew it when it has expired.

    The server says where to log in. The token is kept in a file that only you can read.

    Parameters
    ----------
    url
        The endpoint, such as `https://mcp.example.com/mcp`.
    """
    options = LoginOptions(
        client_id=client_id,
        client_secret=_secret(client_secret),
        metadata_url=client_metadata_url,
        scope=scope,
        issuer=issuer,
        by_credentials=client_credentials,
        patience=timeout,
    )
    grant = trio.run(_login, url, options, browser, insecure)
    path = TokenStore.of(os.environ).save(grant)
    print(printable(_described(grant)))
    print_note(f"the token is in {path}")
    return 0


async def _login(url: str, options: LoginOptions, browser: bool, insecure: bool) -> Grant:
    fetch = fetch_with(url, insecure=insecure)
    found = await find(fetch, url, options.issuer)
    return await log_in(fetch, found, options, _open if browser else _print)


async def _print(url: str) -> None:
    print_note(f"log in at {url}")
    await trio.lowlevel.checkpoint()


async def _open(url: str) -> None:
    await _print(url)
    # Some browsers run until they are closed; the login goes on without them.
    await trio.to_thread.run_sync(webbrowser.open, url, abandon_on_cancel=True)


def _secret(given: str | None) -> str:
    if given is None:
        return os.environ.get("TRIO_MCP_CLIENT_SECRET", "")
    return read_secret(given, "--client-secret")


def _described(grant: Grant) -> str:
    scopes = f" with {' '.join(grant.scopes)}" if grant.scopes else ""
    until = (
        ""
        if grant.expires_at is None
        else f" until {datetime.fromtimestamp(grant.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
    renewed = ", renewed by itself" if grant.renewable else ""
    return f"logged in at {grant.issuer} for {grant.resource}{scopes}{until}{renewed}"


def logout(url: str, /, *, insecure: Insecure = False) -> int:
    """Forget the token of a login, and tell the authorization server that it is not needed any more.

    Parameters
    ----------
    url
        The endpoint, as in `login`.
    """
    store = TokenStore.of(os.environ)
    grant = store.find(url)
    if grant is None:
        raise UsageError(f"there is no login for {url}")
    store.forget(grant)
    if grant.revocation_endpoint:
        try:
            trio.run(revoke, fetch_with(url, insecure=insecure), grant)
        except FetchError as error:
            print_note(f"the token is forgotten here, and may be good until it expires: {error}")
    print(printable(f"logged out of {grant.resource}"))
    return 0
