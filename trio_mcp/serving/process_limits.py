"""What the process may use, and what part of it clients get: descriptors for connections, memory for what waits."""

from __future__ import annotations

from trio_mcp.defaults import MAX_KEPT_BYTES
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.cgroups import memory_limit
from trio_mcp.serving.settings import Settings
from trio_mcp.streams.account import Account

__all__ = ["ADMIN_CONNECTIONS", "TooManyConnections", "account_of", "connection_limit"]

ADMIN_CONNECTIONS = 8
"""Enough for Prometheus, the probes of a kubelet, and a person with the command line."""

RESERVE = 40
"""Descriptors that connections may not use: for the admin listener, connections beyond the bound, Redis, logs and the event loop."""

RESERVED_SHARE = 8
"""One descriptor in so many is kept for connections to peers and for what handlers open."""

_SHARE = 4
"""One part in four of the memory: the rest is for Python, sessions, handlers, and copies."""


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
    limit = memory_limit()
    return Account(MAX_KEPT_BYTES if limit is None else max(limit // _SHARE, 4 * settings.max_body))
