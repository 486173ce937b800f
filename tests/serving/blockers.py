"""A server that does what makes a stop hard; the variable BLOCKER says when and how. Each says BEGAN on stderr first."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_mcp import MCPServer, Session

BLOCKER = os.environ["BLOCKER"]
LONG = 600.0
SPIN_SECONDS = 0.5


def began() -> None:
    sys.stderr.write("BEGAN\n")
    sys.stderr.flush()


def block_here() -> None:
    began()
    time.sleep(LONG)


@asynccontextmanager
async def lifespan(_: MCPServer) -> AsyncIterator[None]:
    if BLOCKER == "lifespan_enter":
        block_here()
    yield
    if BLOCKER == "lifespan_exit":
        block_here()
    sys.stderr.write("CLEANED\n")
    sys.stderr.flush()


triggered = trio.Event()
mcp = MCPServer(
    "blockers", lifespan=lifespan if BLOCKER.startswith("lifespan") or BLOCKER == "stalled_reader" else None
)


@mcp.on_session
async def hook(session: Session) -> None:
    if BLOCKER == "on_session":
        began()
        await triggered.wait()
        block_here()


@mcp.tool
async def spin() -> None:
    began()
    cool = time.monotonic() + SPIN_SECONDS
    while True:  # noqa: ASYNC913
        # Python code all the way, and the machine has others to serve.
        if time.monotonic() > cool:
            time.sleep(0.005)  # noqa: ASYNC251


@mcp.tool
async def sleep() -> None:
    block_here()


@mcp.tool
async def shielded() -> None:
    began()
    with trio.CancelScope(shield=True):
        await trio.sleep(LONG)


@mcp.tool
def worker() -> None:
    block_here()


@mcp.tool
async def thread() -> str:
    threading.Thread(target=block_here, name="stray").start()
    return "started"


@mcp.tool
async def trigger() -> None:
    """Has the hook of the session go on."""
    triggered.set()


@mcp.tool
async def crash() -> None:
    raise RuntimeError("x" * 20_000)


@mcp.tool
async def wait() -> None:
    """Keeps a drain open, and gives way."""
    began()
    await trio.sleep(LONG)


@mcp.tool
async def flood() -> str:
    """More than a socket takes."""
    began()
    return "x" * 8_000_000


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        mcp.run("http")
    else:
        mcp.run()
