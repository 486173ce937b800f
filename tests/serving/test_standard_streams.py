"""Descriptors 0, 1 and 2: closed at the start, printed to while the user's module is imported; and what is logged there."""

from __future__ import annotations

import ast
import json
import os
import sys
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeAlias

import pytest
import trio

from tests.rig.waiting import PATIENCE

pytestmark = pytest.mark.processes

COMMAND = (sys.executable, "-m", "trio_mcp")
ROOT = Path(__file__).parents[2]
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
REQUEST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}).encode() + b"\n"
SERVER = """
import os
print("printed while it is imported")
os.write(1, b"and to the descriptor\\n")
from trio_mcp import MCPServer
mcp = MCPServer("x")

@mcp.tool
def hello() -> None: ...
"""
CLOSED = [{0}, {1}, {2}, {0, 1}, {0, 1, 2}]
LOGGED = b'"event":"request"'

Done: TypeAlias = "CompletedProcess[bytes]"


def made(folder: Path, text: str, name: str = "made") -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


async def run(*command: str, closed: set[int] | None = None, **variables: str) -> Done:
    """The program with a request on its stdin; descriptors are closed as a shell does it."""
    closing = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in sorted(closed or ()))
    # Whoever runs the tests may have Python's streams unbuffered, and then nothing waits to be printed.
    environment = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": str(ROOT), **variables}
    line = ["sh", "-c", f'exec "$@" {closing}', "sh", *command]
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            line, stdin=REQUEST, capture_stdout=True, capture_stderr=True, check=False, env=environment
        )


async def run_each(*runs: partial[Any]) -> list[Done]:
    """Side by side: most of a start is waiting for the disk."""
    done: dict[int, Done] = {}

    async def one(number: int, arguments: partial[Any]) -> None:
        done[number] = await run(*arguments.args, **arguments.keywords)

    async with trio.open_nursery() as nursery:
        for number, arguments in enumerate(runs):
            nursery.start_soon(one, number, arguments)
    return [done[number] for number in range(len(runs))]


def answer(done: Done) -> object:
    """What the only line on stdout says."""
    return [tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]]


async def test_what_is_printed_before_the_server_serves_goes_to_stderr(tmp_path: Path) -> None:
    module = made(tmp_path, SERVER)
    # To the descriptor itself it may write as long as nobody has told us that stdio is served.
    script = made(tmp_path, SERVER.replace("os.write", "# os.write") + "mcp.run()\n", "script")
    by_command, by_itself = await run_each(partial(run, *COMMAND, "run", module), partial(run, sys.executable, script))
    assert answer(by_command) == answer(by_itself) == ["hello"]
    assert b"printed while it is imported" in by_command.stderr
    assert b"and to the descriptor" in by_command.stderr
    assert b"printed while it is imported" in by_itself.stderr


async def test_stdio_says_which_of_its_streams_are_missing_and_ends(tmp_path: Path) -> None:
    module = made(tmp_path, SERVER)
    for closed, done in zip(
        CLOSED,
        await run_each(*(partial(run, *COMMAND, "run", module, closed=closed) for closed in CLOSED)),
        strict=True,
    ):
        missing = [name for number, name in ((0, "stdin"), (1, "stdout")) if number in closed]
        assert b"Traceback" not in done.stdout + done.stderr, closed
        if missing:
            assert (done.returncode, done.stdout) == (1, b""), closed
            assert 2 in closed or f"{' and '.join(missing)} closed" in done.stderr.decode()
        else:
            assert done.returncode == 0, closed
            assert answer(done) == ["hello"]


STOPS_ITSELF = """
import os, signal, sys
from contextlib import asynccontextmanager
from trio_mcp import MCPServer
opened = {number: os.readlink(f"/proc/self/fd/{number}") for number in range(3) if os.get_inheritable(number)}

@asynccontextmanager
async def lifespan(server):
    with open(os.environ["SEEN"], "w") as file:
        file.write(repr(opened))
    os.kill(os.getpid(), signal.SIGTERM)
    yield

mcp = MCPServer("x", lifespan=lifespan)
"""


async def test_a_node_comes_up_and_stops_whatever_is_closed(tmp_path: Path) -> None:
    module = made(tmp_path, STOPS_ITSELF)
    seen = [tmp_path / str(number) for number in range(len(CLOSED))]
    runs = (
        partial(run, *COMMAND, "serve", "--port", "0", module, closed=closed, SEEN=str(path))
        for closed, path in zip(CLOSED, seen, strict=True)
    )
    for closed, path, done in zip(CLOSED, seen, await run_each(*runs), strict=True):
        assert (done.returncode, done.stdout) == (0, b""), (closed, done.stderr)
        assert b"Traceback" not in done.stderr
        opened = ast.literal_eval(path.read_text())
        assert len(opened) == 3, "what the node starts, its workers too, inherits all three"
        assert {number for number, target in opened.items() if target == "/dev/null"} == closed


async def test_stdio_logs_warnings_unless_it_is_asked_for_more_and_each_line_once(tmp_path: Path) -> None:
    module = made(tmp_path, SERVER)
    with_logging = made(tmp_path, "import logging\nlogging.basicConfig(level=10)\n" + SERVER, "with_logging")
    unasked, asked, set_up = await run_each(
        partial(run, *COMMAND, "run", module),
        partial(run, *COMMAND, "run", module, TRIO_MCP_LOG_LEVEL="INFO"),
        partial(run, *COMMAND, "run", with_logging, TRIO_MCP_LOG_LEVEL="INFO"),
    )
    assert unasked.stderr.splitlines() == [b"and to the descriptor", b"printed while it is imported"]
    assert asked.stderr.count(LOGGED) == set_up.stderr.count(LOGGED) == 1
    assert b"INFO:trio_mcp" not in set_up.stderr


CRASHES = """
import threading, warnings
from contextlib import asynccontextmanager
from trio_mcp import MCPServer

class Broken:
    def __del__(self):
        raise LookupError("in a finalizer")

def fail():
    raise LookupError("in a thread")

@asynccontextmanager
async def lifespan(server):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Broken()
    warnings.warn("old")
    raise LookupError("the pool is gone")
    yield

mcp = MCPServer("x", lifespan=lifespan)
"""


async def test_what_crashes_outside_of_any_call_is_a_line_each(tmp_path: Path) -> None:
    module = made(tmp_path, CRASHES)
    for done in await run_each(
        partial(run, *COMMAND, "serve", module, "--port", "0", "--log-format", "json"),
        partial(run, *COMMAND, "run", module, "--log-format", "json"),
    ):
        assert (done.returncode, done.stdout) == (1, b"")
        lines = [json.loads(line) for line in done.stderr.decode().splitlines()]
        errors = [line for line in lines if line["level"] == "error"]
        assert [line["error"][0].partition(" (")[0] for line in errors] == [
            "LookupError: in a thread",
            "LookupError: in a finalizer",
            "LookupError: the pool is gone",
        ]
        assert (errors[0]["event"], errors[-1]["event"]) == ("thread failed", "the server crashed")
        assert any("UserWarning: old" in line["event"] for line in lines)


async def test_a_module_that_runs_its_server_is_told_about_the_guard_by_each_command(tmp_path: Path) -> None:
    module = made(tmp_path, SERVER + "mcp.run()\n")
    words = (["list", module], ["inspect", module], ["call", module, "x"], ["run", module], ["serve", module])
    for each, done in zip(words, await run_each(*(partial(run, *COMMAND, *each) for each in words)), strict=True):
        assert done.returncode == 1, each
        assert b"calls mcp.run() while it is imported" in done.stderr, each
        assert b"__name__ == '__main__'" in done.stderr, each
