"""Our side of the comparison: the same three tools as each peer."""

from trio_mcp import Context, MCPServer

mcp = MCPServer("bench")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@mcp.tool
def add_in_thread(a: int, b: int) -> int:
    """Add two integers in a worker thread."""
    return a + b


@mcp.tool
async def add_with_progress(a: int, b: int, ctx: Context) -> int:
    """Add two integers, after a notification: the answer is an SSE stream."""
    await ctx.report_progress(1, 1)
    return a + b
