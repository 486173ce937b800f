"""The process that `tests.rig.forked` has processes of Python made by: it has imported what they need, and forks for each order.

An order is eight bytes, its length, with the descriptors that the new process gets; then JSON: {"words": [a module or a script, argv],
"environ": {…}, "folder": path, "numbers": [the descriptors' numbers there], "group": whether it leads a process group of its own}. The
answer is the process id, eight bytes.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
from typing import Any, NoReturn

from tests.rig.forked import Forker, Forking

PREPARED = {
    "trio_mcp": (
        "trio_mcp.cli.app",
        "trio_mcp.cluster.redis.store",
        "trio_mcp.serving.hypercorn_front",
        "trio_mcp.serving.node",
        "trio_mcp.serving.stdio",
        "trio_mcp.serving.workers.launch",
        "trio_mcp.serving.workers.seat",
    ),
    "mcp": ("mcp", "mcp.client.streamable_http", "trio", "anyio._backends._asyncio", "anyio._backends._trio"),
}
"""What is imported for the processes of a kind."""
LENGTH = 8
DESCRIPTORS = 64
ABOVE = 512
"""A number that no descriptor of a new process has."""


def received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def become(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """The process that was asked for."""
    kept = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, ABOVE) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(kept, order["numbers"], strict=True):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["folder"])
    program, *words = sys.argv = order["words"]
    if "--workers" in words:
        have_workers_forked()
    if program.endswith(".py"):
        sys.path[0] = os.path.dirname(program)
        runpy.run_path(program, run_name="__main__")
    else:
        sys.path[0] = order["folder"]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    sys.exit()


def have_workers_forked() -> None:
    """A supervisor starts processes too: they are forked from a copy of it as it is now, which ends when it does."""
    ours, its = socket.socketpair()
    if os.fork():
        its.close()
        Forking.forkers["trio_mcp"] = Forker("trio_mcp", ours)
        subprocess.Popen = Forking  # type: ignore[misc]
        return
    ours.close()
    null = os.open(os.devnull, os.O_RDWR)
    kept = fcntl.fcntl(its.detach(), fcntl.F_DUPFD_CLOEXEC, ABOVE)
    for number in range(3):
        os.dup2(null, number)
    # Whatever else there is was given to the supervisor: its other ends are to see when that closes it.
    os.closerange(3, kept)
    work(socket.socket(fileno=kept))
    os._exit(0)


def work(connection: socket.socket) -> None:
    """Until the tests are over. A new process is no child of this one, but of whoever asked: that one adopts orphans meanwhile."""
    gc.collect()
    gc.freeze()
    while True:
        header, descriptors, _, _ = socket.recv_fds(connection, LENGTH, DESCRIPTORS)
        if not header:
            return
        order = json.loads(received(connection, int.from_bytes(header, "big")))
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            made = os.fork()
            if made == 0:
                connection.close()
                os.close(reading)
                os.close(writing)
                become(order, descriptors)
            if order["group"]:
                os.setpgid(made, made)
            os.write(writing, made.to_bytes(LENGTH, "big"))
            os._exit(0)
        os.waitpid(between, 0)
        connection.sendall(os.read(reading, LENGTH))
        for each in (reading, writing, *descriptors):
            os.close(each)


if __name__ == "__main__":
    for name in PREPARED[sys.argv[2]]:
        importlib.import_module(name)
    work(socket.socket(fileno=int(sys.argv[1])))
