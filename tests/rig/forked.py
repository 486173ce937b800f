"""`trio-mcp` processes at the price of a fork: a start costs a second of a core, most of it imports, and the tests start hundreds.

They are as real as others: children of the process that asked, with the descriptors, the environment and the folder that it named.
What forks them is `tests.rig.forker`. Processes that are measured by coverage, or started in a way of their own, are started as usual.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "Forking", "forkable"]

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "trio_mcp"]
AT_START = ("PYTHON", "LC_", "LANG", "COVERAGE_")
"""What begins like this in the environment is read when an interpreter starts."""
PR_SET_CHILD_SUBREAPER = 36
USUAL = (True, None, None, None, -1, False, -1)
"""`restore_signals`, `gid`, `gids`, `uid`, `umask`, `start_new_session`, `process_group` of a process that asks for nothing."""


class Forker:
    """Asks the process that forks; that is started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def fork(self, words: Sequence[str], environ: Mapping[str, str], folder: str, numbers: Mapping[int, int]) -> int:
        """The id of a new child of this process; `numbers` are its descriptors' numbers here by those there."""
        order = {"words": words, "environ": dict(environ), "folder": folder, "numbers": [*numbers]}
        text = json.dumps(order).encode()
        with self._lock, _adopting_orphans():
            connection = self._connection = self._connection or _started()
            socket.send_fds(connection, [len(text).to_bytes(8, "big")], [*numbers.values()])
            connection.sendall(text)
            pid = int.from_bytes(connection.recv(8), "big")
        assert pid, "the process that forks has ended"
        return pid


def _started() -> socket.socket:
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-m", "tests.rig.forker", str(its.fileno())]
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


FORKER = Forker()


class Forking(subprocess.Popen[Any]):
    """`subprocess.Popen` whose `python -m trio_mcp` is forked where it can be."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any, *rest: Any
    ) -> None:
        startupinfo, flags, shell, *pipes = rest[:9]
        environ = os.environ if env is None else env
        plain = (executable, preexec_fn, startupinfo, flags, shell, rest[9:]) == (None, None, None, 0, False, USUAL)
        if not (plain and forkable(args, environ)):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)  # type: ignore[misc]
            return
        given = {number: number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))}
        given |= {number: number for number in pass_fds}
        self.pid = FORKER.fork(args[2:], environ, os.fspath(cwd or os.getcwd()), given)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def forkable(args: object, environ: Mapping[str, str]) -> bool:
    """Whether a process with these arguments and this environment would be the same if it were forked."""
    return (
        sys.platform == "linux"
        and isinstance(args, list | tuple)
        and [*args[:3]] == PROGRAM
        and "COVERAGE_PROCESS_CONFIG" not in environ
        and _read_at_start(environ) == _read_at_start(os.environ)
    )


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}
