"""What the workers serve in tests: each answer says which process gave it. It keeps nothing in memory that a session needs."""

from __future__ import annotations

import os
import time

import trio

from trio_mcp import Context, MCPServer, Task

mcp = MCPServer("workers")


@mcp.tool
async def process() -> dict[str, int]:
    """Tell which process answers."""
    return {"process": os.getpid()}


@mcp.tool
async def slow(seconds: float) -> dict[str, int]:
    """The same, after a while."""
    await trio.sleep(seconds)
    return {"process": os.getpid()}


@mcp.tool(task=Task(after=0))
async def long(name: str, seconds: float) -> dict[str, int]:
    """The same, as a task."""
    await trio.sleep(seconds)
    return {"process": os.getpid()}


@mcp.tool
async def block() -> str:
    """Block the event loop for ever."""
    time.sleep(3600)  # noqa: ASYNC251
    return "over"


@mcp.tool
async def announce(ctx: Context) -> str:
    """Say that the list of tools has changed, and that the resource was updated."""
    mcp.notify_list_changed("tools")
    mcp.notify_resource_updated("workers://news")
    return "done"


@mcp.resource("workers://news")
async def news() -> str:
    """News."""
    return "none"
