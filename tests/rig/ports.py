"""Loopback ports for servers that must come back on the same one."""

from __future__ import annotations

import itertools
import random
import socket

__all__ = ["free_ports"]

_CANDIDATES = range(20_000, 30_000)
"""Below what Linux and macOS give outgoing connections: none of those may take a port whose server is down for a moment,
nor connect to itself there."""

_upcoming = itertools.islice(itertools.cycle(_CANDIDATES), random.randrange(len(_CANDIDATES)), None)
"""One after the other: a port that was given away and is not listened on yet looks free, and must not be given twice. Test
runs beside this one begin elsewhere."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago."""
    return [next(port for port in _upcoming if _is_free(port)) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
