"""What a command shows a server: a header or token from the command line, or the token of a login, renewed once on a 401."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from trio_mcp.auth.errors import no_file
from trio_mcp.auth.resource import covers, is_loopback
from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.output import print_note
from trio_mcp.http_client import Exchange, Head, Headers, HttpTransport

if TYPE_CHECKING:
    from trio_mcp.cli.login.token_store import Grant, TokenStore

__all__ = ["Credentials", "StoredLogin", "credentials_for", "read_secret"]

UNAUTHORIZED = 401


def read_secret(text: str, what: str) -> str:
    """The secret that `@file`, `-` (stdin) or a text on the command line stands for; raises UsageError.

    A note warns of the last: everyone on the host can read a command line with `ps`.
    """
    where = ""
    if text == "-":
        secret, where = sys.stdin.read(), ": nothing came on stdin"
    elif text.startswith("@"):
        file, where = Path(text[1:]), f": nothing is in {text[1:]}"
        try:
            secret = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UsageError(f"{what}: {no_file(file)}") from error
        except OSError as error:
            raise UsageError(f"{what}: {file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{what}: {file} cannot be read: it is not text in UTF-8") from error
    else:
        print_note(f"{what} shows in the list of processes: better {what} @file, or -")
        secret = text
    if not secret.strip():
        raise UsageError(f"{what} is empty{where}")
    if not secret.strip().isprintable() or not secret.isascii():
        raise UsageError(f"{what} has characters in it that no token has")
    return secret.strip()


def credentials_for(
    url: str,
    headers: Sequence[tuple[str, str]],
    bearer: str | None,
    environ: Mapping[str, str],
    *,
    insecure: bool = False,
) -> Credentials:
    """What to send to `url`: an Authorization header that was given, `--bearer`, TRIO_MCP_BEARER, the token of a login, nothing.

    In this order. A token goes over TLS or to loopback, unless `insecure`. Raises UsageError, and LoginError for a stored
    login that cannot be read.
    """
    given = any(name.lower() == "authorization" for name, _ in headers)
    if given and bearer is not None:
        raise UsageError("--bearer and --header 'Authorization: …' are both given: leave one out")
    if given:
        _refuse_plain_http(url, insecure)
        return Credentials(headers)
    token = _token_of_environment(url, environ) if bearer is None else read_secret(bearer, "--bearer")
    if token:
        _refuse_plain_http(url, insecure)
        return Credentials([*headers, ("Authorization", f"Bearer {token}")])
    return Credentials(headers, _login_for(url, environ, insecure))


def _token_of_environment(url: str, environ: Mapping[str, str]) -> str:
    """TRIO_MCP_BEARER, where it is for the server at `url`; else "". Raises UsageError when nothing says what it is for.

    A variable that is set once is there for every command: without its URL the token would go to whatever server is named.
    """
    token, own = environ.get("TRIO_MCP_BEARER", "").strip(), environ.get("TRIO_MCP_BEARER_URL", "").strip()
    if not token or "://" not in url or (not own and _on_loopback(url)):
        return token
    if not own:
        raise UsageError(
            "TRIO_MCP_BEARER is set, and nothing says for which server: set TRIO_MCP_BEARER_URL to its URL, or use --bearer"
        )
    if covers(own, url):
        return token
    print_note(f"TRIO_MCP_BEARER is for {own}, and is not sent to {url}")
    return ""


def _refuse_plain_http(url: str, insecure: bool) -> None:
    if url.startswith("http://") and not insecure and not _on_loopback(url):
        raise UsageError(
            f"{url} has no TLS: whoever is on the way could read the token. Use https, or --insecure to send it all the same"
        )


def _on_loopback(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def _login_for(url: str, environ: Mapping[str, str], insecure: bool) -> StoredLogin | None:
    if "://" not in url:
        return None
    # Imported here: most commands are for servers without a login.
    from trio_mcp.cli.login.token_store import TokenStore

    store = TokenStore.of(environ)
    grant = store.find(url) if store.folder.is_dir() else None
    return None if grant is None else StoredLogin(store, grant, insecure)


class Credentials:
    """The headers for every request, and the login whose token goes with them."""

    def __init__(self, headers: Headers, login: StoredLogin | None = None) -> None:
        self.headers: list[tuple[str, str]] = list(headers)
        self.login: StoredLogin | None = login

    def over(self, transport: HttpTransport) -> HttpTransport:
        """The transport, with the token of the login on each request; `transport` sends the headers."""
        return transport if self.login is None else _LoggedInTransport(transport, self.login)


class StoredLogin:
    """A login from the store, whose token is renewed when the server refuses it."""

    def __init__(self, store: TokenStore, grant: Grant, insecure: bool) -> None:
        self.grant: Grant = grant
        self._store = store
        self._insecure = insecure

    @property
    def header(self) -> tuple[str, str]:
        """What shows the token to the server."""
        return "Authorization", f"Bearer {self.grant.access_token}"

    async def renew(self, refused: str) -> bool:
        """Get a token in place of the one that was `refused`; False when there is none to be had without a person.

        One process at a time: a refresh token that is used twice ends the login (RFC 9700 §4.14.2). Raises FetchError when
        the authorization server cannot be asked.
        """
        from trio_mcp.cli.login.discovery import LoginError
        from trio_mcp.cli.login.flow import fetch_with, renew

        async with _locked(self._store.folder / ".lock"):
            self.grant = self._store.read(self.grant) or self.grant
            if self.grant.access_token != refused:
                return True  # another process was first
            if not self.grant.renewable:
                return False
            try:
                self.grant = await renew(fetch_with(self.grant.resource, insecure=self._insecure), self.grant)
            except LoginError as error:
                print_note(f"the login at {self.grant.issuer} has ended: {error}")
                return False
            self._store.save(self.grant)
        return True


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:  # noqa: ASYNC230  a local file
        await trio.to_thread.run_sync(fcntl.flock, file, fcntl.LOCK_EX, abandon_on_cancel=True)
        yield


class _LoggedInTransport:
    """Sends the token with each request; on a 401 it is renewed once, and the request is sent again."""

    def __init__(self, transport: HttpTransport, login: StoredLogin) -> None:
        self._transport = transport
        self._login = login

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        async with AsyncExitStack() as stack:
            yield _LoggedInExchange(self._transport, self._login, stack, (method, headers, body))


class _LoggedInExchange:
    def __init__(
        self, transport: HttpTransport, login: StoredLogin, stack: AsyncExitStack, request: tuple[str, Headers, bytes]
    ) -> None:
        self._transport = transport
        self._login = login
        self._stack = stack
        self._request = request
        self._exchange: Exchange | None = None

    async def head(self) -> Head:
        sent = self._login.grant.access_token
        head = await self._sent()
        if head.status != UNAUTHORIZED or not await self._login.renew(sent):
            return head
        # The server refused before it did anything, so the request may be sent again.
        await self._stack.aclose()
        return await self._sent()

    async def receive(self) -> bytes:
        assert self._exchange is not None, "head comes first"
        return await self._exchange.receive()

    async def _sent(self) -> Head:
        method, headers, body = self._request
        sent = [*headers, self._login.header]
        self._exchange = await self._stack.enter_async_context(self._transport.exchange(method, sent, body))
        return await self._exchange.head()
