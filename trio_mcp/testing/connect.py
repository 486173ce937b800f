"""`connect`: the official `mcp` client on a server in memory, for tests of tools, resources and prompts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.http.app import HttpApp

if TYPE_CHECKING:
    from mcp import Client

    from trio_mcp.server import MCPServer

__all__ = ["connect"]

MISSING = "trio_mcp.testing.connect gives you the official client, 2.3 or later. Install it with: pip install mcp"


@asynccontextmanager
async def connect(
    server: MCPServer | HttpApp,
    mode: str = "auto",
    *,
    url: str = "http://localhost/mcp",
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """A connected `mcp.Client` for the length of the block. Everything but the socket is as over HTTP.

    `server` may be an MCPServer, or an app of `mcp.http_app(…)` for one with settings. An app that runs already (`app.running()`)
    may have several clients. `mode` is the client's: "auto" (2026-07-28), "legacy" (a session of 2025-11-25), or the version
    "2026-07-28". `url` and `headers` are those of its requests. `options` are passed to the client: `elicitation_callback`,
    `sampling_callback`, `log_level`…

    What the block raises comes out in a group, as from any nursery, and so does an error of the app. Raises ImportError when the
    `mcp` package is not installed (`pip install "trio-mcp[testing]"`).
    """
    try:
        from trio_mcp.testing.official import client_over
    except ImportError as error:
        raise ImportError(MISSING) from error
    app = server if isinstance(server, HttpApp) else server.http_app()
    async with AsyncExitStack() as stack:
        if not app.is_running:
            await stack.enter_async_context(app.running())
        wire = await stack.enter_async_context(asgi_client(app))
        yield await stack.enter_async_context(client_over(wire, url, mode, headers, options))
