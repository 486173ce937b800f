"""What the cluster serves in tests and in `make cluster`: every answer says which node gave it.

It keeps nothing in memory that a session needs, so its sessions can be restored. Every run of `count_runs` is a line in the
file that RIG_RUNS names, which survives the process that wrote it.
"""

from __future__ import annotations

import os
from typing import Any

import trio

from trio_mcp import Context, MCPServer, Session
from trio_mcp.transports.http.route_request import RouteRequest

NODE = os.environ.get("TRIO_MCP_NODE_ID", "alone")
RUNS = os.environ.get("RIG_RUNS", os.devnull)

mcp = MCPServer("rig", version="1.0.0", instructions="Ask `where` who answers.")


def _here(ctx: Context) -> dict[str, Any]:
    session: Session | None = ctx.session
    return {
        "node": NODE,
        "process": os.getpid(),
        "session": "" if session is None else session.short_id,
        "restored": session is not None and session.restored,
    }


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool
async def where(ctx: Context) -> dict[str, Any]:
    """Tell which node and process answers, and for which session."""
    return _here(ctx)


@mcp.tool
async def slow(seconds: float, ctx: Context) -> dict[str, Any]:
    """Answer as `where` does, after a while."""
    await trio.sleep(seconds)
    return _here(ctx)


@mcp.tool
async def count_runs(call: str, ctx: Context, seconds: float = 0.0) -> dict[str, Any]:
    """Write down that `call` ran, then answer as `slow` does."""
    _write_down(f"{call} {NODE} {os.getpid()}\n")
    await trio.sleep(seconds)
    return _here(ctx)


@mcp.tool
async def announce(ctx: Context) -> dict[str, Any]:
    """Tell everybody who subscribed to `rig://from/{node}`, and all that listen to the list of tools."""
    mcp.notify_resource_updated(f"rig://from/{NODE}")
    mcp.notify_list_changed("tools")
    return _here(ctx)


@mcp.tool
async def ask(ctx: Context) -> dict[str, Any]:
    """Ask the user for a name; the question says which node asks, the result which one has the answer."""
    form = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    answer = await ctx.elicit(f"asked by {NODE}", form, key="name")
    return {**_here(ctx), "action": answer.action, "name": (answer.data or {}).get("name", "")}


@mcp.tool
async def crash(ctx: Context) -> str:
    """Crash the session that asks."""
    assert ctx.session is not None
    ctx.session.start_soon(_boom)
    return "bang"


@mcp.tool
async def crash_on_close(ctx: Context) -> str:
    """Have the session's close raise, whenever it comes."""
    assert ctx.session is not None
    ctx.session.start_soon(_boom_in_the_end)
    return "later"


async def _boom() -> None:
    raise RuntimeError("the session was asked to crash")


async def _boom_in_the_end() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise RuntimeError("the session's close was asked to fail")


@mcp.resource("rig://from/{node}")
async def from_node(node: str) -> str:
    """Something to subscribe to: its owner is the node that announces it."""
    return node


@mcp.custom_route("/graphql", methods=("GET", "POST"))
async def graphql(request: RouteRequest) -> dict[str, Any]:
    """Traffic that is not MCP."""
    return {"node": NODE, "process": os.getpid()}


@mcp.custom_route("/announce", methods=("POST",))
async def announce_from_outside(request: RouteRequest) -> dict[str, Any]:
    """What `announce` does, for who has no session: whichever node the balancer picks tells everybody."""
    mcp.notify_resource_updated(f"rig://from/{NODE}")
    mcp.notify_list_changed("tools")
    return {"node": NODE}


def _write_down(line: str) -> None:
    """One write to a file opened for appending: lines of several processes never mix."""
    descriptor = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
