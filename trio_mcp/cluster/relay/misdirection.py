"""A peer's 421: it does not have the session; its body tells who may."""

from __future__ import annotations

import msgspec

from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.relay.outcomes import Misdirected

__all__ = ["read_misdirection"]


class _Body(msgspec.Struct):
    owner: Owner | None = None


def read_misdirection(process: bytes, body: bytes) -> Misdirected:
    """`process` is `node.boot` of the peer; from a body that makes no sense one learns nothing."""
    node, _, boot = process.decode().partition(".")
    try:
        owner = msgspec.json.decode(body, type=_Body).owner
    except (msgspec.DecodeError, UnicodeDecodeError):
        owner = None
    return Misdirected(node, boot, owner)
