"""A server for the tests of channels, stdio and WebSocket: tools that take time, ask, and register another."""

from __future__ import annotations

from typing import Any

import trio
from pydantic import BaseModel

from trio_mcp import Context, MCPServer

__all__ = ["channel_server", "text"]


class Size(BaseModel):
    size: int


def channel_server() -> MCPServer:
    """With the tools `after`, `size` and `grow`."""
    mcp = MCPServer("test")

    @mcp.tool
    async def after(seconds: float, ctx: Context) -> str:
        await ctx.report_progress(1)
        await trio.sleep(seconds)
        return f"after {seconds:g}"

    @mcp.tool
    async def size(ctx: Context) -> str:
        answer = await ctx.elicit("Size?", Size)
        return str(answer.data.size) if answer.data else answer.action

    @mcp.tool
    async def grow(ctx: Context) -> str:
        @mcp.tool(f"grown_{ctx.request_id}")
        async def grown() -> None: ...

        return "grown"

    return mcp


def text(message: Any) -> str:
    """Of a tool's result."""
    found: str = message["result"]["content"][0]["text"]
    return found
