"""What a session is besides its transport: what a directory records of it, and what a restore starts from."""

from __future__ import annotations

from dataclasses import dataclass

from trio_mcp.dispatch.call import Client

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One session at one moment. Streams, calls in flight and tasks are not part of it: they cannot be moved."""

    id: str
    epoch: int
    """How often it was restored: each life has its own."""
    owner: str
    """The digest of the principal that opened it."""
    version: str
    """The protocol version."""
    client: Client
    initialized: bool = False
    log_level: str = "info"
    created: int = 0
    """Seconds on the wall clock."""
    subscriptions: tuple[str, ...] = ()
