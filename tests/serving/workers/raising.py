"""A server whose handlers of every kind raise what they are asked to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import NoReturn

from trio_mcp import Context, MCPServer

__all__ = ["RAISED"]


class Own(BaseException):
    """As a library might have one."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "LookupError": LookupError,
    "SystemExit": lambda: SystemExit(2),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "Own": Own,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("both", [SystemExit(2), ValueError("x")]),
}

mcp = MCPServer("raising")


def fail(kind: str) -> NoReturn:
    raise RAISED[kind]()


@mcp.tool
def sync_tool(kind: str) -> str:
    """Raise in a thread."""
    fail(kind)


@mcp.tool
async def async_tool(kind: str) -> str:
    """Raise on the event loop."""
    fail(kind)


@mcp.resource("raise://{kind}")
async def template(kind: str) -> str:
    """Raise."""
    fail(kind)


@mcp.prompt
async def prompt(kind: str) -> str:
    """Raise."""
    fail(kind)


@mcp.completion("raise://{kind}", "kind")
async def complete(value: str) -> list[str]:
    """Raise."""
    fail(value)


@mcp.tool
async def in_session(kind: str, ctx: Context) -> str:
    """Raise in a task of the session."""

    async def task() -> None:
        fail(kind)

    assert ctx.session is not None
    ctx.session.start_soon(task)
    return "started"


@mcp.tool
async def process() -> dict[str, int]:
    """Tell which process answers."""
    return {"process": os.getpid()}
