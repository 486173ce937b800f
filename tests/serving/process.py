"""A served node as a process of its own, or with `TRIO_MCP_WORKERS` in the environment as several (`make workers-matrix`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks.machine import resident

HERE = Path(__file__).parent
LAST_WORDS_SECONDS = 60.0
WORKERS = int(os.environ.get("TRIO_MCP_WORKERS", "1"))
"""Processes that each node is served by."""


class ServedProcess:
    """A running `trio-mcp serve`; its stderr is kept line by line."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = 0
        self.silent = trio.Event()
        """Set when its log is whole: the process ends before all it said has been read."""
        self._listening = trio.Event()
        self._said = trio.Event()

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until `text` is in the log, that many times."""
        while self.log.count(text) < times:
            self._said = trio.Event()
            await self._said.wait()

    async def read(self) -> None:
        """Keep what it logs; notices the port."""
        assert self.process.stderr is not None
        rest = b""
        async for chunk in self.process.stderr:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line.decode(errors="replace"))
        self._listening.set()
        self.silent.set()

    def _take(self, line: str) -> None:
        self.lines.append(line)
        self._said.set()
        found = re.search(r"https?://127\.0\.0\.1:(\d+)/mcp", line)
        if found and not self.port:
            self.port = int(found[1])
            self._listening.set()

    async def listening(self) -> None:
        """Wait until it said where it listens."""
        await self._listening.wait()
        assert self.port, "\n".join(self.lines)

    @property
    def log(self) -> str:
        """All of stderr so far."""
        return "\n".join(self.lines)

    def memory(self) -> int:
        """Resident bytes, with those of the workers."""
        return resident(self.process.pid)

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def threads(self) -> int:
        """Threads of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


@asynccontextmanager
async def served(
    *flags: str, target: Path = HERE / "stubborn.py", descriptors: int | None = None
) -> AsyncIterator[ServedProcess]:
    """Serve `target` on a free port for the length of the block, with so many descriptors; killed at its end if it still runs."""
    command = [sys.executable, "-m", "trio_mcp", "serve", str(target), "--port", "0", "--log-format", "json", *flags]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"', *command]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        node = ServedProcess(process)
        nursery.start_soon(node.read)
        try:
            await node.listening()
            if WORKERS > 1:
                # The first serves, and the others start.
                await node.says('"worker ready"', WORKERS)
            yield node
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                with trio.move_on_after(LAST_WORDS_SECONDS):
                    await node.silent.wait()
            nursery.cancel_scope.cancel("the test is over")
