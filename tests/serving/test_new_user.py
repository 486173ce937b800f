"""The first five minutes: serve the quickstart in a terminal, call it, press Ctrl+C."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.rig.waiting import PATIENCE
from tests.serving.peer import connect, open_session

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"
CTRL_C = b"\x03"


class Terminal:
    """What a person sees and types."""

    def __init__(self, fd: int) -> None:
        self._stream = trio.lowlevel.FdStream(fd)
        self.seen = ""

    async def shows(self, pattern: str) -> re.Match[str]:
        """Read until the screen matches."""
        while (found := re.search(pattern, self.seen)) is None:
            self.seen += (await self._stream.receive_some()).decode(errors="replace")
        return found

    async def rest(self) -> None:
        """Read until nobody is left to write: the kernel says so with EIO."""
        try:
            while data := await self._stream.receive_some():
                self.seen += data.decode(errors="replace")
        except (OSError, trio.BrokenResourceError):
            pass

    async def type(self, keys: bytes) -> None:
        """Press keys."""
        await self._stream.send_all(keys)


@asynccontextmanager
async def on_a_terminal(*arguments: str) -> AsyncIterator[tuple[Terminal, trio.Process]]:
    """Run `trio-mcp` with a terminal as its stdin, stdout and stderr, as the foreground job Ctrl+C goes to."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", _AS_FOREGROUND_JOB, sys.executable, "-m", "trio_mcp", *arguments]
    process = await trio.lowlevel.open_process(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        yield terminal, process
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        await terminal._stream.aclose()


_AS_FOREGROUND_JOB = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_run_on_a_terminal_says_that_it_waits_for_a_client() -> None:
    with trio.fail_after(PATIENCE):
        async with on_a_terminal("run", str(QUICKSTART)) as (terminal, _):
            await terminal.shows("waits for JSON-RPC of a client")
            await terminal.shows("trio-mcp call FILE TOOL name=value")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_call_and_ctrl_c_with_a_stream_open(workers: str) -> None:
    arguments = ["serve", str(QUICKSTART), "--port", "0", "--workers", workers]
    with trio.fail_after(PATIENCE):
        async with on_a_terminal(*arguments) as (terminal, process):
            url, port = (await terminal.shows(r"(http://127\.0\.0\.1:(\d+)/mcp)")).groups()
            called = await trio.run_process(
                [sys.executable, "-m", "trio_mcp", "call", url, "add", "a=1", "b=2"],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
            )
            assert called.stdout.decode().strip() == "3"
            async with connect(int(port)) as peer:
                await peer.listen(await open_session(int(port)))
                assert await peer.head() == 200
                await terminal.type(CTRL_C)
                await peer.rest()
                assert await process.wait() == 0
            await terminal.rest()
    assert "Traceback" not in terminal.seen
    # Seconds: somebody waits for the prompt, also where each worker drains for itself.
    assert set(re.findall(r"draining .*window=(\S+)", terminal.seen)) == {"1"}
