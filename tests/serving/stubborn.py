"""A server whose handlers do what makes servers hard to stop."""

import ctypes
import gc
import os
import sys
import time
from pathlib import Path

import trio

from trio_mcp import Context, MCPServer, Session

mcp = MCPServer("stubborn")


@mcp.tool
async def quick() -> str:
    """Answers at once."""
    return "ok"


@mcp.tool
async def sleep(seconds: float) -> str:
    """Sleeps, and is told when it must not."""
    await trio.sleep(seconds)
    return "slept"


@mcp.tool
async def shielded(seconds: float) -> str:
    """Refuses to be cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
    return "shielded"


@mcp.tool
def blocking(seconds: float) -> str:
    """Sits in a worker thread."""
    time.sleep(seconds)
    return "blocked"


@mcp.tool
async def flood(count: int, ctx: Context, size: int = 200) -> str:
    """Says a lot, on its own stream and on the session's."""
    for number in range(count):
        await ctx.info({"number": number, "padding": "x" * size})
        if ctx.session is not None:
            await ctx.session.log("info", {"number": number, "padding": "x" * size})
    return f"said {count}"


@mcp.tool
async def crash_later(ctx: Context) -> str:
    """Starts a task of the session that fails."""

    async def fail() -> None:
        raise RuntimeError("the background task failed")

    assert ctx.session is not None
    ctx.session.start_soon(fail)
    return "started"


@mcp.tool
async def crash() -> str:
    """Fails with something its client must not see."""
    raise RuntimeError("the password is hunter2")


live: set[str] = set()


@mcp.on_session
async def watch(session: Session) -> None:
    """A task per session, so that leaks of tasks would show."""
    live.add(session.id)
    try:
        await trio.sleep_forever()
    finally:
        live.remove(session.id)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@mcp.tool
async def left_behind() -> dict[str, int]:
    """What is there, once garbage is collected and freed memory given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    tasks = trio.lowlevel.current_statistics().tasks_living
    return {"sessions": len(live), "tasks": tasks, "blocks": sys.getallocatedblocks(), "bytes": _resident()}
