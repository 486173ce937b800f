"""A process that is forked is what the tests take it for: one that was started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rig.forked import PROGRAM, Forking, words_of
from tests.serving.workers.node import node

pytestmark = [
    pytest.mark.processes,
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone"),
]

SERVER = """
import os
from trio_mcp import MCPServer

mcp = MCPServer("x")

@mcp.tool
def seen() -> list[str]:
    return [os.getcwd(), os.environ["GIVEN"], str(os.getppid()), __file__]
"""
STARTED: Any = Forking.__base__
"""The usual one, whatever stands in its place meanwhile."""


def _is_forked(pid: int) -> bool:
    return b"tests.rig.forker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["call", "made.py", "seen"], 0),
        (["call", "nowhere.py", "seen"], 1),
        (["call", "--what"], 2),
        (["config", "--json"], 0),
        (["--version"], 0),
    ],
)
def test_it_ends_as_one_that_was_started_and_says_the_same(words: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(SERVER)
    said = []
    for kind in (Forking, STARTED):
        with kind(
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "GIVEN": "a value", "NO_COLOR": "1"},
        ) as process:
            said.append(process.communicate())
        assert process.returncode == code
    assert said[0] == said[1]


def test_it_is_a_child_of_whoever_asked_and_a_signal_ends_it() -> None:
    process = Forking([*PROGRAM, "run", "examples/everything.py"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with process:
        assert _is_forked(process.pid)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_a_descriptor_has_the_number_there_that_it_has_here(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [*PROGRAM, "serve", "examples/everything.py", "--bind", f"fd://{listener.fileno()}"]
        process = Forking(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[listener.fileno()])
        with process, socket.create_connection(listener.getsockname()) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert _is_forked(process.pid)
            process.terminate()
        assert process.returncode == 0


async def test_the_workers_of_a_node_are_forked_and_are_children_of_their_supervisor() -> None:
    async with node() as served_node:
        for pid in served_node.pids:
            assert _is_forked(pid)
            assert _parent(pid) == served_node.run.process.pid


@pytest.mark.parametrize(
    ("command", "different"),
    [
        ([*PROGRAM, "--version"], {"COVERAGE_PROCESS_CONFIG": "{}"}),
        ([*PROGRAM, "--version"], {"PYTHONHASHSEED": "1"}),
        ([sys.executable, "-c", "pass"], {}),
    ],
)
def test_what_is_measured_or_started_in_a_way_of_its_own_is_started_as_usual(
    command: list[str], different: dict[str, str]
) -> None:
    assert words_of(command, {**os.environ, **different}) is None
