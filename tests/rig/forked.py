"""Processes at the price of a fork: to start one costs a second of a core, most of it imports, and the tests start hundreds.

They are as real as others: children of the process that asked, with the descriptors, the environment and the folder that it named.
What forks them is `tests.rig.forker`; the workers of a node, for its supervisor, too. That is for `python -m trio_mcp` and the scripts
of the official client; those that are measured by coverage, or started in a way of their own, are started as usual.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["PROGRAM", "Forker", "Forking", "words_of"]

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "trio_mcp"]
CLIENT = "python_2_3.py"
"""How the names of scripts end that are clients with the `mcp` that is installed beside us."""
AT_START = ("PYTHON", "LC_", "LANG", "COVERAGE_")
"""What begins like this in the environment is read when an interpreter starts."""
PR_SET_CHILD_SUBREAPER = 36
USUAL = (True, None, None, None, -1, False)
"""`restore_signals`, `gid`, `gids`, `uid`, `umask`, `start_new_session` of a process that asks for nothing."""


class Forker:
    """Asks the process that forks for a kind of programs; it is started when it is needed, if there is no connection to one."""

    def __init__(self, kind: str, connection: socket.socket | None = None) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._connection = connection

    def fork(self, order: dict[str, Any], numbers: Mapping[int, int]) -> int:
        """The id of a new child of this process; `numbers` are its descriptors' numbers here by those there."""
        text = json.dumps({**order, "numbers": [*numbers]}).encode()
        with self._lock, _adopting_orphans():
            connection = self._connection = self._connection or _started(self._kind)
            socket.send_fds(connection, [len(text).to_bytes(8, "big")], [*numbers.values()])
            connection.sendall(text)
            pid = int.from_bytes(connection.recv(8), "big")
        assert pid, "the process that forks has ended"
        return pid


def _started(kind: str) -> socket.socket:
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-m", "tests.rig.forker", str(its.fileno()), kind]
        process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """The new process is forked twice and so has lost its parent: for this moment this process is who gets such children."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Forking(subprocess.Popen[Any]):
    """`subprocess.Popen` whose programs of Python are forked where they can be."""

    forkers: ClassVar = {kind: Forker(kind) for kind in ("trio_mcp", "mcp")}
    """By what has been imported for them."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any, *rest: Any
    ) -> None:
        startupinfo, flags, shell, *pipes = rest[:9]
        environ = os.environ if env is None else env
        plain = (executable, preexec_fn, startupinfo, flags, shell, rest[9:15]) == (None, None, None, 0, False, USUAL)
        group = rest[15]
        words = words_of(args, environ)
        if words is None or not plain or group not in (-1, 0):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)  # type: ignore[misc]
            return
        given = {number: number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))}
        given |= {number: number for number in pass_fds}
        order = {
            "words": words,
            "environ": dict(environ),
            "folder": os.fspath(cwd or os.getcwd()),
            "group": group == 0,
        }
        self.pid = self.forkers["mcp" if words[0].endswith(".py") else "trio_mcp"].fork(order, given)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def words_of(args: object, environ: Mapping[str, str]) -> list[str] | None:
    """The script, or what stands behind `-m`; None when a forked process would not be the one that these arguments, and this environment, start."""
    if sys.platform != "linux" or not isinstance(args, list | tuple) or "COVERAGE_PROCESS_CONFIG" in environ:
        return None
    if _read_at_start(environ) != _read_at_start(os.environ):
        return None
    given = [*map(str, args)]
    if given[:1] == [sys.executable] and "".join(given[1:2]).endswith(CLIENT):
        return given[1:]
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    for start in ([sys.executable, "-m"], [sys.executable, *flags, "-m"]):
        words = given[len(start) :]
        if words and given[: len(start)] == start and words[0].partition(".")[0] == "trio_mcp":
            return words
    return None


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}
