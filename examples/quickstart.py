"""Three small tools. `trio-mcp serve examples/quickstart.py`, or start it from an MCP client: `python quickstart.py`."""

import trio

from trio_mcp import Context, MCPServer, ToolError

mcp = MCPServer("quickstart", instructions="Arithmetic, and a countdown that shows progress.")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool
async def divide(a: float, b: float) -> float:
    """Divide one number by another."""
    if b == 0:
        raise ToolError("b must not be 0")
    return a / b


@mcp.tool
async def countdown(ctx: Context, start: int = 5) -> str:
    """Count down, one number a second."""
    for left in range(start, 0, -1):
        await ctx.report_progress(start - left, start, f"{left}…")
        await trio.sleep(1)
    return "Lift-off!"


if __name__ == "__main__":
    mcp.run()
