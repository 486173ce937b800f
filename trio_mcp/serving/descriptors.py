"""How many connections fit below the process' limit of descriptors (`ulimit -n`)."""

from __future__ import annotations

from trio_mcp.protocol.errors import McpError

__all__ = ["ADMIN_CONNECTIONS", "TooManyConnections", "connection_limit"]

ADMIN_CONNECTIONS = 8
"""Prometheus, a kubelet's probes, and somebody with the command line."""

RESERVE = 40
"""Descriptors for the admin listener, for connections that are told that there are too many, for Redis, logs and the event loop."""

RESERVED_SHARE = 8
"""One in so many is kept for connections to peers and for what handlers open."""


class TooManyConnections(McpError):
    """More connections are asked for than the process may have descriptors; the text says what to set."""


def connection_limit(wanted: int | None) -> int | None:
    """The bound on open connections; None where the system has no limit. Raises TooManyConnections."""
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
