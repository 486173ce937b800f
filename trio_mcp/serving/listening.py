"""Addresses opened, or an error a person can act on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from trio_mcp.protocol.errors import McpError
from trio_mcp.transports.listener import open_listeners, remove_socket_files

__all__ = ["CannotListen", "listen", "no_socket_files"]

_NEXT_STEP = {
    errno.EADDRINUSE: "Stop the process that has it, or choose another with --port",
    errno.EADDRNOTAVAIL: "This machine has no such address: see --host and --bind",
    errno.EACCES: "Ports below 1024, and some folders, need more rights",
    errno.ENOENT: "The folder of a Unix socket must exist",
    errno.EBADF: "Whoever starts this process must open that descriptor",
    errno.ENOTSOCK: "Whoever starts this process must open a listening socket there",
}


class CannotListen(McpError):
    """An address cannot be had; the text names it, the reason and the next step."""


async def listen(binds: Sequence[str]) -> list[trio.SocketListener]:
    """Listen on every bind; raises CannotListen, and then none is left open."""
    listeners: list[trio.SocketListener] = []
    try:
        for bind in binds:
            listeners += await _listen(bind)
    except CannotListen:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


@contextmanager
def no_socket_files(binds: Sequence[str]) -> Iterator[None]:
    """After the block no Unix socket is left behind: whoever finds one expects somebody to answer there."""
    try:
        yield
    finally:
        remove_socket_files(binds)


async def _listen(bind: str) -> list[trio.SocketListener]:
    try:
        return await open_listeners([bind])
    except ValueError as error:
        raise CannotListen(f"cannot listen: {error}") from error
    except socket.gaierror as error:
        reason = "nobody knows this name. --host and --bind take an address of this machine"
        raise CannotListen(f"cannot listen on {bind}: {reason}") from error
    except OSError as error:
        known = error.errno or 0
        reason = os.strerror(known).lower() if known else str(error)
        step = f". {_NEXT_STEP[known]}" if known in _NEXT_STEP else ""
        raise CannotListen(f"cannot listen on {bind}: {reason}{step}") from error
