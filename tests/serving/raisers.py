"""A server whose code raises what is no `Exception`: in tools, as argparse does, and at the end of its lifespan."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_mcp import MCPServer


class Own(BaseException):
    """As a library might have one."""


AT_END: dict[str, BaseException] = {
    "Exception": LookupError("at the end"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
    "Own": Own("at the end"),
    "BaseExceptionGroup": BaseExceptionGroup("both", [SystemExit(3), ValueError("at the end")]),
}


@asynccontextmanager
async def lifespan(server: MCPServer) -> AsyncIterator[None]:
    """Raise at the end what the environment names."""
    yield
    if "RAISED_AT_END" in os.environ:
        raise AT_END[os.environ["RAISED_AT_END"]]


mcp = MCPServer("raisers", lifespan=lifespan)


@mcp.tool
def convert(options: list[str]) -> int:
    """Read options as a command line."""
    parser = argparse.ArgumentParser(prog="convert")
    parser.add_argument("--quality", type=int, default=1)
    quality: int = parser.parse_args(options).quality
    return quality


@mcp.tool
def interrupt_thread() -> str:
    """Raise in a worker thread."""
    raise KeyboardInterrupt


@mcp.tool
async def interrupt_loop() -> str:
    """Raise on the event loop."""
    raise KeyboardInterrupt
