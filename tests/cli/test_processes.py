"""The command as people run it: processes, sockets, signals."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.rig.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

COMMAND = [sys.executable, "-m", "trio_mcp"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run in other folders, from this source tree."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@asynccontextmanager
async def started(*words: str) -> AsyncIterator[tuple[trio.Process, "Lines"]]:
    """A command and the lines of its stderr; it must end, at the latest when the block does."""
    process = await trio.lowlevel.open_process([*COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stderr is not None
    try:
        yield process, Lines(process.stderr)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


class Lines:
    """Whole lines of a stream, each given once."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._pending = b""

    async def until(self, pattern: str) -> list[str]:
        """Everything up to the first line that has `pattern`."""
        with trio.fail_after(PATIENCE):
            return await self._until(pattern)

    async def _until(self, pattern: str) -> list[str]:
        lines: list[str] = []
        while not (lines and re.search(pattern, lines[-1])):
            while b"\n" not in self._pending:
                data = await self._stream.receive_some()
                assert data, f"ended without {pattern!r}: {lines}"
                self._pending += data
            line, _, self._pending = self._pending.partition(b"\n")
            lines.append(line.decode())
        return lines

    async def rest(self) -> str:
        parts = [self._pending]
        while data := await self._stream.receive_some():
            parts.append(bytes(data))
        return b"".join(parts).decode()


async def ended(process: trio.Process) -> int:
    with trio.fail_after(PATIENCE):
        return await process.wait()


async def output(*words: str) -> tuple[int, str, str]:
    with trio.fail_after(PATIENCE):
        done = await trio.run_process([*COMMAND, *words], capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_the_demo_says_how_to_use_it_is_used_and_stops_on_ctrl_c() -> None:
    async with started("demo", "--port", "0", "--log-format", "text") as (process, lines):
        banner = await lines.until("Ctrl.C stops")
        assert len(banner) <= 8
        assert re.match(r'trio-mcp \S+  "demo"  3 tools  -  MCP 2026-07-28', banner[0])
        url = re.search(r"endpoint +(http://127.0.0.1:\d+/mcp)", "\n".join(banner))
        assert url is not None
        for era in ([], ["--legacy"]):
            assert await output("call", url[1], "add", "a=1", "b=2", *era) == (0, "3\n", "")
            code, out, err = await output("call", url[1], "countdown", "start=1", *era)
            assert (code, out, err) == (0, "Lift-off!\n", "progress 0/1  1\n")
        assert "greeting://{name}" in (await output("list", url[1]))[1]
        assert (await output("list", url[1] + "/nope"))[0] == 1
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0
        assert "Traceback" not in await lines.rest()


async def test_off_a_terminal_serve_says_it_is_ready_in_one_json_line(shop: str) -> None:
    async with started("serve", shop, "--port", "0") as (process, lines):
        ready = json.loads((await lines.until("endpoint"))[-1])
        assert (ready["event"], ready["server"]) == ("ready", "shop")
        assert (await output("call", ready["endpoint"], "price", "name=ab"))[1] == "2\n"
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


async def test_an_unknown_variable_is_warned_about(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_DRAIN_TIMOUT", "1")
    async with started("serve", shop, "--port", "0") as (process, lines):
        warning = json.loads((await lines.until("TIMOUT"))[-1])
        assert warning["level"] == "warning"
        assert "did you mean TRIO_MCP_DRAIN_TIMEOUT?" in warning["event"]
        await lines.until("endpoint")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


async def test_a_port_that_is_taken_is_told_with_the_next_step(shop: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    code, _, err = await output("serve", shop, "--port", str(port))
    await listeners[0].aclose()
    assert code == 1
    assert err.endswith(
        f"trio-mcp: cannot listen on 127.0.0.1:{port}: address already in use. "
        "Stop the process that has it, or choose another with --port\n"
    )


async def test_run_speaks_stdio_and_keeps_stdout_for_the_protocol(shop: str) -> None:
    async with started("run", shop) as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        await process.stdin.send_all(json.dumps(request).encode() + b"\n")
        (line,) = await Lines(process.stdout).until("serverInfo")
        assert json.loads(line)["result"]["serverInfo"]["name"] == "shop"
        await process.stdin.aclose()
        assert await ended(process) == 0


async def test_run_over_http_serves(shop: str) -> None:
    async with started("run", shop, "-t", "streamable-http", "--port", "0") as (process, lines):
        ready = json.loads((await lines.until("endpoint"))[-1])
        assert (await output("inspect", ready["endpoint"], "--legacy"))[1].startswith("shop 3 - The shop\n")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (
            ["version"],
            {
                "trio_mcp.serving.settings",
                "trio_mcp.cli.serve",
                "trio_mcp.cli.client_commands",
                "hypercorn",
                "mcp_types",
            },
        ),
        (["list", "http://127.0.0.1:1/mcp"], {"trio_mcp.serving.settings", "trio_mcp.cli.serve", "hypercorn"}),
        (
            ["config"],
            {"trio_mcp.serving.node", "trio_mcp.cli.client_commands", "trio_mcp.transports.listener", "hypercorn"},
        ),
    ],
)
def test_a_command_imports_nothing_it_does_not_use(words: list[str], unused: set[str]) -> None:
    script = f"import sys\nfrom trio_mcp.cli import execute\nexecute({words})\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not unused & set(done.stderr.split())
