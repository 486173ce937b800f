"""Loopback ports for servers that must come back on the same one."""

from __future__ import annotations

import errno
import itertools
import random
import socket
from collections.abc import Iterator
from functools import cache

__all__ = ["free_ports"]

_CANDIDATES = range(20_000, 32_000)
"""Below what Linux and macOS give outgoing connections: none of those may take a port whose server is down for a moment,
nor connect to itself there."""
_BLOCK = 100
"""Ports that one process hands out. A port comes round again when the others of its block have been given."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago; other processes that ask this function are given others."""
    return [next(port for port in _upcoming() if _is_free(port)) for _ in range(count)]


@cache
def _upcoming() -> Iterator[int]:
    """One after the other: a port that was given away and is not listened on yet looks free, and must not be given twice."""
    return itertools.cycle(_own_block())


def _own_block() -> range:
    """A block that no other process has; raises OSError when all are taken.

    The first port of a block is its lock: it stays bound, with no one listening, until this process ends.
    """
    blocks = range(_CANDIDATES.start, _CANDIDATES.stop, _BLOCK)
    for first in random.sample(blocks, len(blocks)):
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", first))
        except OSError:
            lock.close()
            continue
        lock.detach()
        return range(first + 1, first + _BLOCK)
    raise OSError(errno.EADDRINUSE, f"each of the {len(blocks)} blocks of test ports is in use")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
