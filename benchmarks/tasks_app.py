"""What `benchmarks.task_costs` asks: tasks that end at once, tasks that run, and how late the event loop is."""

from __future__ import annotations

import trio

from trio_mcp import Context, MCPServer, Task
from trio_mcp.auth import Principal
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.tasks.extension import Tasks
from trio_mcp.tasks.limits import TaskLimits

ASLEEP_SECONDS = 0.002
MANY = TaskLimits(per_node=20_000, per_principal=20_000, ended_left=1)
"""More than the figures need, so that no bound is what is measured; what has ended may expire at once."""


def authenticate(request: HttpRequestView) -> Principal | None:
    return Principal(request.header("authorization") or "nobody")


mcp = MCPServer("tasks", version="1.0.0", auth=authenticate, extensions=[Tasks(limits=MANY)])


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool(task=Task("required", after=0))
async def over_at_once() -> str:
    """End."""
    return "done"


@mcp.tool(task=Task("required", after=0, ttl=1))
async def soon_expired() -> str:
    """End, and be kept for a second."""
    return "done"


@mcp.tool(task=Task("required", after=0))
async def works(seconds: int, ctx: Context) -> str:
    """Say every second how far it is."""
    for second in range(seconds):
        await ctx.report_progress(second, seconds, f"second {second}")
        await trio.sleep(1)
    return "done"


@mcp.tool
async def lag(seconds: float) -> dict[str, float]:
    """How many ms later than it asked for a task was woken: the median, one of a hundred, and the worst."""
    late, end = [], trio.current_time() + seconds
    while (began := trio.current_time()) < end:
        await trio.sleep(ASLEEP_SECONDS)
        late.append((trio.current_time() - began - ASLEEP_SECONDS) * 1000)
    late.sort()
    return {"median": late[len(late) // 2], "p99": late[len(late) * 99 // 100], "worst": late[-1]}
