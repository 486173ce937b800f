"""The process that `tests.rig.forked` has `trio-mcp` processes made by: it has imported what they need, and forks for each order.

An order is eight bytes, its length, with the descriptors that the new process gets; then JSON: {"words": [argv after `python -m`],
"environ": {…}, "folder": path, "numbers": [the descriptors' numbers there]}. The answer is the process id, eight bytes.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import runpy
import socket
import sys
from typing import Any

import trio_mcp.cli.app
import trio_mcp.cluster.redis.store
import trio_mcp.serving.hypercorn_front
import trio_mcp.serving.node
import trio_mcp.serving.stdio  # noqa: F401

LENGTH = 8
DESCRIPTORS = 64
ABOVE = 512
"""A number that no descriptor of a new process has."""


def received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def become(order: dict[str, Any], descriptors: list[int]) -> None:
    """The process that was asked for; returns when its program has ended."""
    kept = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, ABOVE) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(kept, order["numbers"], strict=True):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["folder"])
    module, *words = order["words"]
    sys.path[0] = order["folder"]
    sys.argv = ["-m", *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


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
                return become(order, descriptors)
            os.write(writing, made.to_bytes(LENGTH, "big"))
            os._exit(0)
        os.waitpid(between, 0)
        connection.sendall(os.read(reading, LENGTH))
        for each in (reading, writing, *descriptors):
            os.close(each)


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])))
