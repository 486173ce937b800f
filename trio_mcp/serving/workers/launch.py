"""Runs the supervisor of a node with several workers as a process: its log, its banner, one `trio.run`, the exit code.

What the supervisor owns for its whole life is opened here: the listening sockets, and the folder with the workers' own sockets.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio

from trio_mcp.observability.build import version
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.front import listen, no_socket_files
from trio_mcp.serving.launch import announce, check_server, expected_error_alone, prepare_process
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.workers.division import check_divisible
from trio_mcp.serving.workers.messages import PROTOCOL, Ready, Setup
from trio_mcp.serving.workers.supervisor import Supervisor

__all__ = ["launch_workers", "socket_folder"]

MOST_FOLDER = 80
"""Bytes. A Unix socket's path has 103 at most on macOS and 107 on Linux; a worker adds the 16 of its boot, a slash and `.moves`."""


def launch_workers(target: str, flags: dict[str, Any]) -> int:
    """Serve TARGET with several processes until stopped, and return the exit code. `flags` are the settings of the command line.

    Raises SettingsError, McpError where Hypercorn is not installed, CannotListen, and WorkerFailed when the first worker does not start.
    """
    settings = load(**flags)
    check_divisible(settings)
    check_server(settings)
    prepare_process(settings, "http")
    return trio.run(partial(_supervise, target, flags, settings))


async def _supervise(target: str, flags: dict[str, Any], settings: Settings) -> int:
    def ready(said: Ready) -> None:
        text = f"{said.banner}\n  {'workers':<9} {settings.workers}"
        announce(settings, text, **said.fields, workers=settings.workers)

    with (
        expected_error_alone(),
        no_socket_files([*settings.binds, settings.admin_bind or ""]),
        socket_folder() as folder,
    ):
        listeners = await listen(settings.binds)
        try:
            template = Setup(
                protocol=PROTOCOL,
                release=version(),
                target=target,
                flags=flags,
                path=list(sys.path),
                name=settings.node_id or secrets.token_hex(4),
                index=0,
                folder=folder,
                secret=secrets.token_urlsafe(32),
                listeners=[listener.socket.fileno() for listener in listeners],
            )
            return await Supervisor(template, settings, ready).run()
        finally:
            for listener in listeners:
                listener.socket.close()


@contextmanager
def socket_folder() -> Iterator[str]:
    """A new folder for the sockets by which workers reach each other: only this user may enter it. Removed after the block.

    Raises McpError where there can be none, or its name is too long for a Unix socket.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="trio-mcp-", ignore_cleanup_errors=True)
    except OSError as error:
        raise McpError(
            f"workers need a folder for their sockets: {error}. Set TMPDIR to one that can be written"
        ) from error
    with made as folder:
        if len(os.fsencode(folder)) > MOST_FOLDER:
            raise McpError(
                f"{folder} is too long a name for the sockets of workers: set TMPDIR to a shorter folder, such as /tmp"
            )
        yield folder
