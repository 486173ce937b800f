"""Loopback ports for servers that must come back on the same one."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

__all__ = ["free_ports"]

_CANDIDATES = range(20_000, 30_000)
"""Below what Linux and macOS give outgoing connections: none of those may take a port whose server is down for a moment,
nor connect to itself there."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago."""
    found = _free()
    return [next(found) for _ in range(count)]


def _free() -> Iterator[int]:
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
