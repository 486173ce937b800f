"""Starts many `trio-mcp` processes at the cost of one import: run as a program, it forks for each line of its stdin.

{"argv": [a command's words, or a script and its words], "env": {…}, "folder": path, "stdin": path, "stdout": path, "stderr": path} ─▶ {"pid": n}, and when that ends {"pid": n, "status": n}
"""

from __future__ import annotations

import json
import os
import runpy
import selectors
import signal
import sys
from typing import Any, NoReturn

import trio_mcp.cli.serve
import trio_mcp.server
import trio_mcp.serving.hypercorn_front
import trio_mcp.serving.node
import trio_mcp.serving.stdio  # noqa: F401
from trio_mcp.cli import main


def become(order: dict[str, Any]) -> NoReturn:
    """The process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, (name, flags) in enumerate((("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))):
        descriptor = os.open(order[name], flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.update(order["env"])
    os.chdir(order["folder"])
    if order["argv"][0].endswith(".py"):
        sys.argv = order["argv"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    sys.argv = ["trio-mcp", *order["argv"]]
    main()
    raise AssertionError("main ends the process")


def report(**said: int) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        report(pid=pid, status=os.waitstatus_to_exitcode(status))


def work() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    buffer = b""
    while True:
        for key, _ in selector.select():
            if key.fd == reading:
                os.read(reading, 4096)
                reap()
                continue
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    become(json.loads(line))
                report(pid=pid)


if __name__ == "__main__":
    work()
