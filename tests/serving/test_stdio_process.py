"""stdio as clients meet it: a child process on pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.oracle import Oracle
from trio_mcp.transports.stdio.lines import LineReader

pytestmark = pytest.mark.processes

SERVER = Path(__file__).parent / "stdio_server.py"
ROOT = Path(__file__).parents[2]
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
PATIENCE = 120
"""Seconds for a whole test on a busy machine; what is promised to be quick is measured by itself."""


class Child:
    """A server process and the client's ends of its pipes."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.errors = b""
        self.silent = trio.Event()
        """Set when `errors` is all it said."""
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self._lines = LineReader(process.stdout, 1 << 24)
        self._legacy, self._modern = Oracle("2025-11-25"), Oracle("2026-07-28")
        self._modern_ids: set[int | str] = set()

    async def say(self, message: Any) -> None:
        await self.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def start(self, id: int | str, method: str, params: dict[str, Any] | None = None) -> None:
        self._legacy.asked(id, method)
        await self.say({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}})

    async def modern(self, id: int | str, method: str, params: dict[str, Any] | None = None) -> None:
        self._modern.asked(id, method)
        self._modern_ids.add(id)
        await self.say({"jsonrpc": "2.0", "id": id, "method": method, "params": {**(params or {}), "_meta": META}})

    async def hear(self) -> Any:
        line = await self._lines.next_line()
        if line is None:
            return None
        message = json.loads(line)
        return (self._modern if message.get("id") in self._modern_ids else self._legacy).heard(message)

    async def open(self) -> None:
        offer = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await self.start("open", "initialize", offer)
        assert (await self.hear())["id"] == "open"
        await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def collect_errors(self) -> None:
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.errors += chunk
        self.silent.set()

    async def ends_well(self) -> None:
        """Wait for the process's end, with exit code 0."""
        assert await self.process.wait() == 0


@asynccontextmanager
async def child(*command: str) -> AsyncIterator[Child]:
    """A server process for the length of the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [sys.executable, *(command or (str(SERVER),))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            served = Child(process)
            nursery.start_soon(served.collect_errors)
            try:
                yield served
            finally:
                if process.poll() is None:
                    process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                nursery.cancel_scope.cancel("the test is over")


@pytest.mark.requirement("IO1", "IO7", "IO9")
@pytest.mark.parametrize("command", [(), ("-m", "trio_mcp", "run", str(SERVER))], ids=["mcp.run()", "trio-mcp run"])
async def test_both_eras_are_served_by_one_process(command: tuple[str, ...]) -> None:
    async with child(*command) as served:
        await served.modern("d", "server/discover")
        assert (await served.hear())["result"]["supportedVersions"]
        await served.open()
        await served.start("l", "tools/call", {"name": "nap", "arguments": {"seconds": 0}})
        assert (await served.hear())["result"]["content"][0]["text"] == "rested"
        await served.modern("m", "tools/call", {"name": "nap", "arguments": {"seconds": 0}})
        assert (await served.hear())["result"]["resultType"] == "complete"
        await served.stdin.aclose()
        assert await served.hear() is None
        await served.ends_well()


@pytest.mark.requirement("IO1", "IO2")
async def test_whatever_a_handler_prints_goes_to_stderr() -> None:
    async with child() as served:
        await served.open()
        await served.start(1, "tools/call", {"name": "noisy"})
        assert (await served.hear())["result"]["content"][0]["text"] == "quiet"
        await served.stdin.aclose()
        assert await served.hear() is None
        await served.ends_well()
        await trio.testing.wait_all_tasks_blocked()
        for line in (b"printed", b"written", b"to the descriptor", b"from a child"):
            assert line in served.errors


@pytest.mark.requirement("IO1")
async def test_a_program_that_a_handler_starts_takes_no_request_for_its_input() -> None:
    async with child() as served:
        await served.open()
        await served.start(1, "tools/call", {"name": "hungry"})
        await served.start(2, "ping")
        answers = {message["id"]: message["result"] for message in (await served.hear(), await served.hear())}
        assert answers[1]["content"][0]["text"] == ""
        assert answers[2] == {}
        await served.stdin.aclose()
        await served.ends_well()


@pytest.mark.requirement("IO3")
async def test_requests_piped_in_at_once_get_their_answers_before_the_process_ends() -> None:
    async with child() as served:
        for number in range(20):
            await served.modern(number, "tools/call", {"name": "nap", "arguments": {"seconds": 0.1}})
        await served.stdin.aclose()
        assert {(await served.hear())["id"] for _ in range(20)} == set(range(20))
        assert await served.hear() is None
        await served.ends_well()


@pytest.mark.requirement("IO3", "IO4")
@pytest.mark.parametrize("tool", ["nap", "shielded", "blocking"])
@pytest.mark.parametrize("end", ["EOF", "SIGTERM", "SIGINT"])
async def test_it_ends_soon_whatever_its_handlers_do(tool: str, end: str) -> None:
    async with child() as served:
        await served.open()
        arguments = {"seconds": 3600} if tool == "nap" else {}
        await served.start("l", "tools/call", {"name": tool, "arguments": arguments})
        await served.modern("m", "tools/call", {"name": tool, "arguments": arguments})
        await served.start("ping", "ping")
        assert (await served.hear())["id"] == "ping"
        if end == "EOF":
            await served.stdin.aclose()
        else:
            served.process.send_signal(getattr(signal, end))
        await served.ends_well()
        assert b"Traceback" not in served.errors


@pytest.mark.requirement("IO4")
async def test_a_client_that_closes_its_reading_end_ends_the_process() -> None:
    async with child() as served:
        await served.open()
        assert served.process.stdout is not None
        await served.process.stdout.aclose()
        await served.start(1, "ping")
        await served.ends_well()
        assert b"Traceback" not in served.errors
