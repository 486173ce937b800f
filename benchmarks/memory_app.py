"""What the memory benchmark serves: answers of every size that may wait in memory."""

import trio

from trio_mcp import Context, MCPServer
from trio_mcp.types import ImageContent

mcp = MCPServer("memory")

PICTURE = b"x" * 1_700_000


@mcp.tool
async def screenshot() -> ImageContent:
    """An image of 1.7 MB, after the time for which heads are held back: it comes as a stream."""
    await trio.sleep(0.6)
    return ImageContent.of(PICTURE, "image/png")


@mcp.tool(structured_output=False)
async def text(size: int, ctx: Context) -> str:
    """A text of `size` bytes behind a log message: a stream that is kept for replay."""
    await ctx.info("begun")
    return "x" * size


@mcp.tool
async def quick() -> str:
    """What the client beside the load calls."""
    return "ok"
