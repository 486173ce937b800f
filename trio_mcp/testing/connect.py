"""`connect`: the official `mcp` client on a server in memory, for tests of tools, resources and prompts."""

from __future__ import annotations

import copy
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from trio_mcp.auth.principal import Principal
from trio_mcp.observability.logs import leaves
from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.http.app import HttpApp

if TYPE_CHECKING:
    from mcp import Client

    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.server import MCPServer

__all__ = ["connect"]

MISSING = (
    "trio_mcp.testing.connect gives you the official client, 2.3 or later. Install it with: pip install 'mcp>=2.3'"
)


@asynccontextmanager
async def connect(
    server: MCPServer | HttpApp,
    mode: str = "auto",
    *,
    url: str = "http://localhost/mcp",
    headers: Mapping[str, str] | None = None,
    principal: Principal | None = None,
    scopes: Iterable[str] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """A connected `mcp.Client` for the length of the block. Everything but the socket is as over HTTP.

    `server` may be an MCPServer, or an app of `mcp.http_app(…)` for one with settings. An app that runs already (`app.running()`)
    may have several clients. `mode` is the client's: "auto" (2026-07-28), "legacy" (a session of 2025-11-25), or the version
    "2026-07-28". `url` and `headers` are those of its requests. `options` are passed to the client: `elicitation_callback`,
    `sampling_callback`, `log_level`…

    With `principal`, `scopes` or both, the client has an access token of that caller with those scopes, and what the server and its
    components ask of tokens is enforced, without an authorization server. Without them nothing is asked where the server has no
    `auth`; one that has a `BearerAuth` needs them, or an `authorization` in `headers`.

    What the block raises comes out as it is; an error of the app comes in a group, as from any nursery. Raises ImportError when the
    `mcp` package is not installed (`pip install "trio-mcp[testing]"`), TypeError for `principal` or `scopes` with an app, and for a
    server with a `BearerAuth` where nothing says who calls.
    """
    try:
        from trio_mcp.testing.official import client_over
    except ImportError as error:
        raise ImportError(MISSING) from error
    if principal is not None or scopes is not None:
        if isinstance(server, HttpApp):
            raise TypeError(
                "principal= and scopes= take the place of the server's own auth=: give the server, not its app"
            )
        secret = secrets.token_urlsafe()
        headers = {**(headers or {}), "authorization": f"Bearer {secret}"}
        server = server.http_app(auth=_accepting(secret, server, principal, scopes or ()), resource=url, in_memory=True)
    elif not isinstance(server, HttpApp):
        _refuse_nobody(server, headers or {})
    app = server if isinstance(server, HttpApp) else server.http_app(resource=url, in_memory=True)
    raised: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            if not app.is_running:
                await stack.enter_async_context(app.running())
            wire = await stack.enter_async_context(asgi_client(app))
            client = await stack.enter_async_context(client_over(wire, url, mode, headers, options))
            try:
                yield client
            except BaseException as error:
                raised = error
                raise
    except BaseExceptionGroup as group:
        if raised is None or not _is_nothing_but(group, raised):
            raise
    if raised is not None:
        try:
            # Outside of the handler, or the group would be shown as its context.
            raise raised
        finally:
            del raised


def _is_nothing_but(group: BaseException, raised: BaseException) -> bool:
    """Whether `group` holds what `raised` is, or holds, and nothing else: every nursery on the way has made a group."""
    return {id(leaf) for leaf in leaves(group)} == {id(leaf) for leaf in leaves(raised)}


def _refuse_nobody(server: MCPServer, headers: Mapping[str, str]) -> None:
    from trio_mcp.auth.bearer_auth import BearerAuth

    if isinstance(server.auth, BearerAuth) and "authorization" not in {name.lower() for name in headers}:
        raise TypeError(
            f"{server.name} has auth=, and nothing says who calls: connect(server, principal=Principal('ann'), scopes=['mcp:read'])"
        )


def _accepting(secret: str, server: MCPServer, principal: Principal | None, scopes: Iterable[str]) -> BearerAuth:
    """The server's authorization, with one token that is accepted in place of those of its issuer."""
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.auth.static_tokens import StaticTokenVerifier
    from trio_mcp.auth.tokens import AccessToken

    who = principal or Principal("test")
    token = AccessToken(
        who.client_id,
        [*scopes],
        subject=who.subject or None,
        claims={"sub": who.subject, "iss": who.issuer, **who.claims},
    )
    verifier = StaticTokenVerifier({secret: token})
    if not isinstance(server.auth, BearerAuth):
        return BearerAuth(verifier)
    auth = copy.copy(server.auth)
    auth.verifier = verifier
    return auth
