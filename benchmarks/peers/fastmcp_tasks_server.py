"""FastMCP's own server of tasks, with the tools that the requesters in tests/clients call: `fastmcp_tasks_server.py PORT`."""

import asyncio
import sys
from typing import Annotated

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp_tasks import TasksExtension
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

mcp = FastMCP("fastmcp")
mcp.add_extension(TasksExtension(url="memory://"))
FORM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}


@mcp.tool
async def greet(name: str) -> str:
    """Greet somebody, at once."""
    return f"Hello, {name}!"


@mcp.tool(task=True)
async def slow_compute(seconds: float, label: str = "") -> str:
    """Compute for some seconds."""
    await asyncio.sleep(seconds)
    return f"Computed {label or 'something'} for {seconds:g} s"


@mcp.tool(task=True)
async def failing_job() -> str:
    """Fail."""
    raise ToolError("This job intentionally fails")


@mcp.tool(task=True)
async def confirm_delete(ctx: Context, filename: Annotated[str, "the file"]) -> str | InputRequiredResult:
    """Ask before a file is deleted, in the way that FastMCP has for tasks: return, and run again."""
    if not ctx.input_responses:
        params = ElicitRequestFormParams(message=f"Delete {filename}?", requested_schema=FORM)
        return InputRequiredResult(input_requests={"confirm": ElicitRequest(params=params)})
    return f"Deleted {filename}"


if __name__ == "__main__":
    mcp.run("http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False, log_level="ERROR")
