"""What the benchmark of cut answers serves: answers that begin to stream at once."""

import trio

from trio_mcp import Context, MCPServer

mcp = MCPServer("cut answers")

TICKS = "clock://ticks"


@mcp.tool
async def report(ctx: Context, work: float = 0) -> str:
    """Report progress at once, and answer after `work` seconds."""
    await ctx.report_progress(1, 2)
    if work:
        await trio.sleep(work)
    return "done"


@mcp.tool
async def tick(ctx: Context) -> str:
    """Notify all clients that listen that the ticks changed."""
    await ctx.notify_resource_updated(TICKS)
    return "ticked"


@mcp.resource(TICKS)
async def ticks() -> str:
    """What the listeners subscribe to."""
    return "tick"
