"""What the nodes of the drill of tasks serve. Every step of a run is a line in the file that RIG_RUNS names, which survives the process."""

from __future__ import annotations

import os

import trio

from trio_mcp import Context, MCPServer, Task

NODE = os.environ.get("TRIO_MCP_NODE_ID", "alone")
RUNS = os.environ.get("RIG_RUNS", os.devnull)

mcp = MCPServer("tasks", version="1.0.0")


def _note(name: str, step: str) -> None:
    # One write of a few bytes at the end of a file is whole, whoever writes at the same time.
    handle = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{name} {step} {NODE} {os.getpid()}\n".encode())
    os.close(handle)


async def _work(name: str, seconds: float, ctx: Context) -> str:
    _note(name, "began")
    for second in range(int(seconds)):
        await ctx.report_progress(second, seconds, f"second {second}")
        await trio.sleep(1)
    _note(name, "done")
    return f"{name} is done"


@mcp.tool(task=Task("required", after=0))
async def plain(name: str, seconds: float, ctx: Context) -> str:
    """Work for a while; it may not run twice."""
    return await _work(name, seconds, ctx)


@mcp.tool(task=Task("required", after=0, idempotent=True))
async def again(name: str, seconds: float, ctx: Context) -> str:
    """The same; it may run again."""
    return await _work(name, seconds, ctx)


@mcp.tool(task=Task("required", after=0))
async def asks(name: str, seconds: float, ctx: Context) -> str:
    """Ask first, and work after that: what comes after the answer may not run twice."""
    answer = await ctx.elicit("Go on?", {"type": "object", "properties": {}}, key="go")
    return await _work(f"{name}:{answer.action}", seconds, ctx)
