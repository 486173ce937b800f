"""Descriptors 0, 1 and 2: opened where they are missing, and kept from user code on stdio."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trio_mcp.protocol.errors import McpError

__all__ = ["Pipes", "StreamsClosed", "open_missing_streams", "protocol_pipes"]

_STREAMS = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w"))

_missing: set[str] = set()
"""The names of the streams that the process was started without."""


class StreamsClosed(McpError):
    """stdio cannot be served: stdin or stdout was closed when the process started."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """Copies of descriptors 0 and 1, whose other ends the client has."""

    stdin: int
    stdout: int


def open_missing_streams() -> None:
    """Open the null device for each of stdin, stdout and stderr that was closed when the process started.

    To be called before anything opens a descriptor. Otherwise a socket could get the number, and what is printed would go to a
    client. The processes that this one starts inherit them.
    """
    missing = [(number, *stream) for number, stream in enumerate(_STREAMS) if getattr(sys, stream[0]) is None]
    for number, _, flags, _ in missing:
        if not _is_open(number):
            # The kernel takes the lowest free number, which is this one: those below are open.
            os.set_inheritable(os.open(os.devnull, flags), True)
    # Only now: what Python opens for itself would get the number of the next one.
    for _, name, _, mode in missing:
        _missing.add(name)
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextmanager
def protocol_pipes() -> Iterator[Pipes]:
    """Take stdin and stdout for the protocol, for the length of the block, so that nothing user code prints is mixed into it.

    Meanwhile descriptor 1 is stderr, and 0 is the null device: a child process (ffmpeg, ssh) would read requests as its input.
    Raises StreamsClosed.
    """
    open_missing_streams()
    if closed := sorted(_missing & {"stdin", "stdout"}):
        names = " and ".join(closed)
        raise StreamsClosed(
            f"{names} closed: on stdio a client starts this process and talks to it there. For HTTP: -t http"
        )
    pipes = Pipes(os.dup(0), os.dup(1))
    os.dup2(2, 1)
    # What a script printed before it called `run` may still be in the buffer.
    sys.stdout.flush()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        yield pipes
    finally:
        sys.stdout.flush()
        os.dup2(pipes.stdin, 0)
        os.dup2(pipes.stdout, 1)
        os.close(pipes.stdin)
        os.close(pipes.stdout)
