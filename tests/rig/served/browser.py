"""What a page in a browser asks over a WebSocket: one token is known, and a tool says how far it is."""

from __future__ import annotations

import trio

from trio_mcp import Context, MCPServer
from trio_mcp.auth import Principal
from trio_mcp.auth.principal import HttpRequestView

TOKEN = "a-token+with/all.that~tokens_have=="


def authenticate(request: HttpRequestView) -> Principal | None:
    return Principal("ada") if request.header("authorization") == f"Bearer {TOKEN}" else None


mcp = MCPServer("browser", auth=authenticate)


@mcp.tool
async def whoami(ctx: Context) -> str:
    """Who asks."""
    return ctx.principal.subject


@mcp.tool
async def count(to: int, ctx: Context) -> int:
    """Count, and say so."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to)
        await trio.sleep(0.02)
    return to
