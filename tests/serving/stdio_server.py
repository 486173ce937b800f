"""A server for the process tests of stdio: it prints, and it is hard to stop."""

import os
import subprocess
import sys
import time

import trio

from trio_mcp import MCPServer

mcp = MCPServer("stdio")


@mcp.tool
async def noisy() -> str:
    """Say things on stdout, in every way there is."""
    print("printed")
    sys.stdout.write("written\n")
    sys.stdout.flush()
    os.write(1, b"to the descriptor\n")
    subprocess.run(["echo", "from a child"], check=True)  # noqa: ASYNC221
    return "quiet"


@mcp.tool
async def hungry() -> str:
    """Start a program that reads its stdin, as ffmpeg and ssh do."""
    done = subprocess.run(["cat"], capture_output=True, timeout=120, check=True)  # noqa: ASYNC221
    return done.stdout.decode()


@mcp.tool
async def nap(seconds: float) -> str:
    """Sleep."""
    await trio.sleep(seconds)
    return "rested"


@mcp.tool
async def shielded() -> None:
    """Refuse to be cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep(3600)


@mcp.tool
def blocking() -> None:
    """Hold a worker thread."""
    time.sleep(3600)


if __name__ == "__main__":
    mcp.run()
