"""Mistakes that type checkers must refuse, each on a marked line; whatever has no mark they must take.

`make check` compares the marks with what mypy and pyright say (`tools/public_types.py`). It is never run.
"""
# ruff: noqa: B018, F841

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel

from trio_mcp import Context, Elicited, MCPServer, Principal, Session
from trio_mcp.auth import AccessToken, Claim, require_roles, require_scopes
from trio_mcp.testing import connect
from trio_mcp.types import CreateMessageResult, LogLevel, Root, TextContent


@dataclass
class App:
    greeting: str


class Form(BaseModel):
    name: str


mcp = MCPServer("misuse")


async def work(times: int) -> None: ...


def sync_work() -> None: ...


# Sessions


@mcp.tool
async def without_a_session(ctx: Context) -> None:
    ctx.session.start_soon(work, 1)  # refused: None on 2026-07-28


@mcp.tool
async def sessions(ctx: Context) -> None:
    session = ctx.session
    if session is None:
        return
    session.start_soon(work, 1)
    session.start_sooon(work, 1)  # refused
    session.start_soon(work, "1")  # refused
    session.start_soon(work)  # refused
    session.start_soon(sync_work)  # refused
    session.close("enough")
    session.close(404)  # refused
    session.accept([])  # refused: the engine's
    session.id = "mine"  # refused: read-only
    level: LogLevel = session.log_level
    session.log_level = "warning"
    session.log_level = "loud"  # refused
    await session.log("info", {"any": "value"}, logger="mine")
    await session.log("loud", "x")  # refused
    await session.notify_resource_updated(b"x://y")  # refused
    version: bytes = session.protocol_version  # refused
    principal: Principal = session.principal


# Requests


@mcp.tool
async def requests(ctx: Context[App]) -> str:
    ctx.headers["user-agent"]  # refused: None on stdio
    ctx.request_id = 1  # refused: read-only
    ctx.lifespan_context.greting  # refused
    await ctx.info("x", logger=1)  # refused
    await ctx.log("loud", "x")  # refused
    await ctx.report_progress()  # refused
    await ctx.report_progress("half")  # refused
    await ctx.info("x", extra="y")  # refused
    await ctx.report_progress(1, total=2, message="halfway")
    return ctx.lifespan_context.greeting


@mcp.tool
async def questions(ctx: Context) -> None:
    answer: Elicited[Form] = await ctx.elicit("Who?", Form)
    answer.data.name  # refused: None when declined
    if answer.data is not None:
        name: str = answer.data.name
        answer.data.nome  # refused
    await ctx.elicit("Who?", int)  # refused
    await ctx.elicit_url("Sign in", 443)  # refused
    result: CreateMessageResult = await ctx.sample("Say hello", max_tokens=10)
    result.contents  # refused
    await ctx.sample("Say hello", max_tokens="ten")  # refused
    roots: list[Root] = await ctx.list_roots()
    await ctx.list_roots("file:///")  # refused


# Registering


@mcp.tool(name=1)  # refused
async def named() -> None: ...


@mcp.tool(titel="Typo")  # refused
async def titled() -> None: ...


@mcp.resource()  # refused: no URI
async def resource() -> str:
    return "x"


@mcp.tool(auth=require_scopes("mcp:write"), hide=True)
async def guarded(token: AccessToken, email: Annotated[str, Claim("email")], ctx: Context) -> None:
    token.claims["email"]  # refused: may be None
    ctx.token.scopes  # refused: None on stdio
    if ctx.token is not None:
        ctx.token.scopes


@mcp.resource("a://b", auth=[require_roles("hr"), lambda token: "x" in token.scopes])
async def guarded_too() -> None: ...


@mcp.prompt(auth="mcp:write")  # refused: write require_scopes("mcp:write")
async def guarded_by_text() -> None: ...


@mcp.on_session
async def hook(session: Session) -> None: ...


@mcp.on_session  # refused: it gets a Session
async def wrong_hook(session: int) -> None: ...


# Serving and testing

MCPServer(nam="x")  # refused
mcp.http_app(max_sessions="many")  # refused
mcp.http_app(max_sessions=10)
TextContent(txt="x")  # refused
TextContent(text="x")


async def test() -> None:
    async with connect(mcp, "legacy") as client:
        await client.list_tools()
    async with connect(mcp, principal=Principal("ann"), scopes=["mcp:read"]):
        pass
    async with connect(mcp, principal="ann"):  # refused
        pass
    async with connect("mcp"):  # refused
        pass
