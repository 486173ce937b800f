"""The official Python SDK with stateful sessions; JSON answers, its fastest mode, unless SSE=1."""

import os

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

mcp = MCPServer("bench")


@mcp.tool()
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@mcp.tool()
def add_in_thread(a: int, b: int) -> int:
    """Add two integers in a worker thread."""
    return a + b


@mcp.tool()
async def add_with_progress(a: int, b: int, ctx: Context) -> int:
    """Add two integers, after a notification."""
    await ctx.report_progress(1, 1)
    return a + b


app = mcp.streamable_http_app(json_response=os.environ.get("SSE") != "1", max_sessions=None)
