"""`connect(principal=, scopes=)`: tests of what a server asks of its callers, without an authorization server."""

from __future__ import annotations

from typing import Annotated

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from tests.auth.issuer import RESOURCE, verifier
from trio_mcp import Context, MCPServer, Principal
from trio_mcp.auth import BearerAuth, Claim, require_roles, require_scopes
from trio_mcp.testing import connect

MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])


def server(auth: BearerAuth | None = None) -> MCPServer:
    mcp = MCPServer("test", auth=auth)

    @mcp.tool
    async def who(ctx: Context, tenant: Annotated[str, Claim("tenant")] = "-") -> str:
        scopes = ["no token"] if ctx.token is None else ctx.token.scopes
        return f"{ctx.principal.issuer} {ctx.principal.client_id} {ctx.principal.subject} {tenant} {' '.join(scopes)}"

    @mcp.tool(auth=require_scopes("mcp:write"))
    async def w() -> str:
        return "written"

    @mcp.tool(auth=require_roles("hr"))
    async def hr() -> str:
        return "hr"

    return mcp


def text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


@MODES
async def test_handlers_see_the_caller_with_the_scopes(mode: str) -> None:
    ann = Principal("ann", "https://login", {"tenant": "t1"}, client_id="desktop")
    async with connect(server(), mode, principal=ann, scopes=["mcp:write", "b"]) as client:
        assert text(await client.call_tool("who", {})) == "https://login desktop ann t1 mcp:write b"
        assert text(await client.call_tool("w", {})) == "written"
        assert {it.name for it in (await client.list_tools()).tools} == {"who", "w"}


@MODES
async def test_a_scope_that_lacks_refuses_the_call(mode: str) -> None:
    async with connect(server(), mode, scopes=["mcp:read"]) as client:
        assert text(await client.call_tool("who", {})) == "  test - mcp:read"
        with pytest.raises(MCPError, match="w needs mcp:write"):
            await client.call_tool("w", {})


async def test_what_the_server_asks_of_every_request_is_asked_here_too() -> None:
    issuer = verifier()
    auth = BearerAuth(
        issuer,
        resource=RESOURCE,
        required_scopes=["mcp:read"],
        scope_implies={"mcp:admin": ["mcp:write", "mcp:read"]},
    )
    mcp = server(auth)
    async with connect(mcp, scopes=["mcp:admin"]) as client:
        assert text(await client.call_tool("w", {})) == "written"
    with pytest.RaisesGroup(MCPError, flatten_subgroups=True):
        async with connect(mcp, "legacy", scopes=["mcp:write"]) as client:
            pass
    assert mcp.auth is auth
    assert auth.verifier is issuer


async def test_a_server_with_authorization_has_to_be_told_who_calls() -> None:
    mcp = server(BearerAuth(verifier(), resource=RESOURCE))
    with pytest.raises(TypeError, match=r"nothing says who calls: connect\(server, principal="):
        async with connect(mcp):
            pass
    with pytest.RaisesGroup(MCPError, flatten_subgroups=True):
        async with connect(mcp, "legacy", headers={"Authorization": "Bearer of-another-issuer"}):
            pass


@MODES
async def test_without_them_nothing_is_asked_in_memory(mode: str) -> None:
    async with connect(server(), mode) as client:
        assert text(await client.call_tool("who", {})) == "   - no token"
        assert text(await client.call_tool("w", {})) == "written"
        assert text(await client.call_tool("hr", {})) == "hr"


async def test_an_app_has_its_own_authorization() -> None:
    with pytest.raises(TypeError, match="give the server"):
        async with connect(MCPServer("test").http_app(), scopes=["a"]):
            pass
