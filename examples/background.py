"""A task per session: it lives in the session's nursery, tells the client what changes, and is cancelled with the session.

Only sessions (up to 2025-11-25) have such a task. A client of 2026-07-28 has no session: for it, change things in a
task of the `lifespan=` and notify all clients, with `mcp.notify_resource_updated`.
"""

import trio

from trio_mcp import Context, MCPServer, Session

mcp = MCPServer("background", instructions="Subscribe to uptime://session and it is updated every second.")

opened_at: dict[str, float] = {}


@mcp.on_session
async def tick(session: Session) -> None:
    """Runs once for every session, from its opening to its end."""
    opened_at[session.id] = trio.current_time()
    try:
        while True:
            await trio.sleep(1)
            await session.notify_resource_updated("uptime://session")
    finally:
        del opened_at[session.id]


@mcp.resource("uptime://session", mime_type="text/plain")
async def uptime(ctx: Context) -> str:
    """How long this session has been open."""
    if ctx.session is None:
        return "There is no session."
    return f"{trio.current_time() - opened_at[ctx.session.id]:.0f} s"


@mcp.tool
async def remind(text: str, seconds: float, ctx: Context) -> str:
    """Send a reminder later, as a log message; the call itself returns at once."""
    session = ctx.session
    if session is None:
        return "Only a session can be reminded."

    async def later() -> None:
        await trio.sleep(seconds)
        await session.log("notice", text)

    session.start_soon(later)
    return f"Will remind you in {seconds:g} s."


if __name__ == "__main__":
    mcp.run("http")
