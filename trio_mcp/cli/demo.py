"""The server of `trio-mcp demo`."""

from __future__ import annotations

import trio

from trio_mcp import Context, MCPServer, ToolError

__all__ = ["mcp"]

mcp: MCPServer = MCPServer("demo", instructions="A few small things to try an MCP client on.")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool
async def countdown(ctx: Context, start: int = 5) -> str:
    """Count down to zero, four numbers a second, and report progress."""
    if not 0 <= start <= 100:
        raise ToolError("start must be between 0 and 100")
    for left in range(start, 0, -1):
        await ctx.report_progress(start - left, start, f"{left}")
        await trio.sleep(0.25)
    return "Lift-off!"


@mcp.tool
async def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


@mcp.resource("greeting://{name}")
async def greeting(name: str) -> str:
    """A greeting for anyone."""
    return f"Hello, {name}!"


@mcp.prompt
async def welcome(name: str, tone: str = "friendly") -> str:
    """Ask the model for a welcome."""
    return f"Write a {tone} welcome for {name}, in two sentences."
