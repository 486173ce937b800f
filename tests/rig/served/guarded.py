"""A server with tokens: every request needs mcp:read, one tool mcp:write as well. Settings come from the environment."""

import os

from trio_mcp import Context, MCPServer
from trio_mcp.auth import BearerAuth, require_scopes

mcp = MCPServer(
    "guarded",
    auth=BearerAuth.from_issuer(
        os.environ["ISSUER"],
        resource=os.environ.get("RESOURCE"),
        required_scopes=["mcp:read"],
        leeway=float(os.environ.get("LEEWAY", "30")),
    ),
)


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool
async def whoami(ctx: Context) -> str:
    """Who asks."""
    return f"{ctx.principal.subject} by {ctx.principal.client_id}"


@mcp.tool
async def expires(ctx: Context) -> int:
    """When the token of this call ends, as Unix time in seconds."""
    assert ctx.token is not None
    return ctx.token.expires_at or 0


@mcp.tool(auth=require_scopes("mcp:write"))
async def write(text: str) -> str:
    """What only a token with mcp:write may call."""
    return f"wrote {text}"
