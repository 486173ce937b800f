"""What the process may use, and what part of it clients get: descriptors for connections, memory for what waits."""

from __future__ import annotations

from pathlib import Path

from trio_mcp.defaults import MAX_KEPT_BYTES
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import Settings
from trio_mcp.streams.account import Account

__all__ = ["ADMIN_CONNECTIONS", "TooManyConnections", "account_of", "cgroup_limit", "connection_limit"]

ADMIN_CONNECTIONS = 8
"""Enough for Prometheus, the probes of a kubelet, and a person with the command line."""

RESERVE = 40
"""Descriptors that connections may not use: for the admin listener, connections beyond the bound, Redis, logs and the event loop."""

RESERVED_SHARE = 8
"""One descriptor in so many is kept for connections to peers and for what handlers open."""

_SHARE = 4
"""One part in four of the memory: the rest is for Python, sessions, handlers, and copies."""

_V1 = "memory/memory.limit_in_bytes"
_V2 = "memory.max"
_UNLIMITED = 1 << 50
"""cgroup v1 writes "no limit" as a number near 2**63."""


class TooManyConnections(McpError):
    """`max_connections` does not fit below the limit of descriptors (`ulimit -n`); the text says what to set."""


def connection_limit(wanted: int | None) -> int | None:
    """The bound on open connections: as `wanted`, else from the limit of descriptors; None where there is neither.

    Raises TooManyConnections.
    """
    limit = _descriptors()
    if limit is None:
        return wanted
    most = max(1, limit - max(RESERVE, limit // RESERVED_SHARE))
    if wanted is not None and wanted > limit - RESERVE:
        raise TooManyConnections(
            f"max_connections {wanted} does not fit below the limit of {limit} descriptors: "
            f"raise that (ulimit -n {wanted + RESERVE}), or set max_connections to {max(1, limit - RESERVE)} or less"
        )
    return most if wanted is None else wanted


def _descriptors() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def account_of(settings: Settings) -> Account:
    """How many bytes may wait in the node: as set, else a quarter of the memory limit, else 256 MiB; at least four bodies."""
    if settings.max_kept_bytes is not None:
        return Account(settings.max_kept_bytes)
    limit = cgroup_limit()
    return Account(MAX_KEPT_BYTES if limit is None else max(limit // _SHARE, 4 * settings.max_body))


def cgroup_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The smallest memory limit of this process's cgroup and those around it, in bytes; None where there is none."""
    found = [limit for folder in _folders(root, own) for name in (_V2, _V1) if (limit := _read(folder / name))]
    return min(found, default=None)


def _folders(root: Path, own: Path) -> list[Path]:
    """Those of cgroup v2, from our own up to the root. Within a container, its own is the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / path.strip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _read(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and 0 < int(text) < _UNLIMITED else None
