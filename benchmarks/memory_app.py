"""What the memory benchmark serves: answers of every size that waits."""

import trio

from trio_mcp import Context, MCPServer
from trio_mcp.types import ImageContent

mcp = MCPServer("memory")

PICTURE = b"x" * 1_700_000


@mcp.tool
async def screenshot() -> ImageContent:
    """A picture of 1.7 MB, later than an answer is held back: it comes as a stream."""
    await trio.sleep(0.6)
    return ImageContent.of(PICTURE, "image/png")


@mcp.tool(structured_output=False)
async def text(size: int, ctx: Context) -> str:
    """A text of `size` bytes behind a log message: a stream that is kept for replay."""
    await ctx.info("begun")
    return "x" * size


@mcp.tool
async def quick() -> str:
    """What everybody else asks for."""
    return "ok"
