"""`make cluster` is a whole cluster to try things on, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio

from tests.rig.client import LegacyClient, NewClient
from tests.rig.http_connection import fetch
from tests.rig.waiting import PATIENCE, until

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

        return await until(asked, f"it says {pattern}")


@asynccontextmanager
async def _making() -> AsyncIterator[Made]:
    command = [sys.executable, "-m", "tools.cluster", "--restore"]
    made = Made(await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.read)
        try:
            yield made
        finally:
            # It ends its parts; by SIGKILL they would stay, and hold the pipe.
            made.process.send_signal(signal.SIGINT)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await made.process.wait()
            nursery.cancel_scope.cancel("it has ended")


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
        with trio.fail_after(PATIENCE):
            assert await made.process.wait() == 0
        for each in (url, f"{admin}/livez"):
            with pytest.raises(OSError, match="connect"):
                await fetch(each)


async def test_an_engineer_checks_it_kills_a_node_and_sees_its_sessions_go_on_elsewhere(new_client: NewClient) -> None:
    async with _making() as made:
        await made.says("(Ctrl.C stops everything)")
        url, redis = await made.says(r"MCP +(\S+)"), await made.says(r"Redis +(\S+)")
        checked = await _command("check", url, "--insecure")
        assert checked.rstrip().endswith("green")

        client = new_client(url)
        await until(partial(_opened_on, client, "node3"), "a session on node3")
        await until(partial(_is_on, redis, client, "node3"), "the session is on record")

        os.kill(int(await made.says(r"kill -9 (\d+)")), signal.SIGKILL)
        await made.says("(node3 ended with -9)")
        await until(partial(_answered, client), "the session goes on")
        after = await _sessions(redis)
        assert after[_short(client.session)] in ("node1", "node2")
        assert (await _command("check", url, "--insecure")).rstrip().endswith("green")


async def _command(*words: str) -> str:
    """What `trio-mcp` prints; it has to end well."""
    done = await trio.run_process([sys.executable, "-m", "trio_mcp", *words], capture_stdout=True)
    return done.stdout.decode()


async def _sessions(redis: str) -> dict[str, str]:
    """Which node has which session, by its short id."""
    found = json.loads(await _command("sessions", "--redis-url", redis, "--json"))
    return {each["session"].rpartition(".")[2]: each["node"] for each in found["sessions"]}


async def _is_on(redis: str, client: LegacyClient, node: str) -> bool:
    return (await _sessions(redis)).get(_short(client.session)) == node


def _short(session: str) -> str:
    return session.rpartition(".")[2][:8]


async def _opened_on(client: LegacyClient, node: str) -> bool:
    client.jar.clear()
    return (await client.initialize()).status == 200 and client.node == node


async def _answered(client: LegacyClient) -> bool:
    return not (await client.tool("where")).error
