"""`make cluster` is a whole cluster to try things on, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from tests.rig.client import NewClient
from tests.rig.waiting import until
from tests.rig.wire import fetch

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


@dataclass
class Made:
    """The running command and what it prints."""

    process: trio.Process
    said: str = ""

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.said += chunk.decode()

    async def says(self, pattern: str) -> str:
        """Wait for it; the first group."""

        async def asked() -> str:
            found = re.search(pattern, self.said)
            return found[1] if found else ""

        return await until(asked, f"it says {pattern}", patience=60)


@asynccontextmanager
async def _making() -> AsyncIterator[Made]:
    command = [sys.executable, "-m", "tools.cluster", "--restore"]
    made = Made(await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.read)
        try:
            yield made
        finally:
            made.process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await made.process.wait()


async def test_it_says_where_everything_is_starts_nodes_again_and_ends_with_all_its_parts(
    new_client: NewClient,
) -> None:
    async with _making() as made:
        await made.says("(Ctrl.C stops everything)")
        url, admin = await made.says(r"MCP +(\S+)"), await made.says(r"node3 .* admin (\S+)")
        client = new_client(url)
        assert (await client.initialize()).status == 200
        assert (await client.tool("where")).told["node"] == client.node

        os.kill(int(await made.says(r"kill -9 (\d+)")), signal.SIGKILL)
        await made.says("(node3 ended with -9)")
        assert made.process.stdin is not None
        await made.process.stdin.send_all(b"\n")
        await made.says("(node3 is back)")
        assert (await fetch(f"{admin}/metrics")).status == 200

        made.process.send_signal(signal.SIGINT)
        with trio.fail_after(30):
            assert await made.process.wait() == 0
        for each in (url, f"{admin}/livez"):
            with pytest.raises(OSError, match="connect"):
                await fetch(each)
