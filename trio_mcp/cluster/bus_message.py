"""What nodes tell each other over Redis pub/sub, as bytes.

A release before this one reads `boot`, `n`, `changes` and `end`, and passes by what it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trio_mcp.cluster.record import OwnershipChange

__all__ = ["Message", "end_message", "moved_message"]


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes in order, or a session to end, or sessions that are another's now."""

    boot: str
    """Of the sender; "" where the order of messages means nothing."""
    n: int = 0
    changes: list[tuple[str, str]] = []
    """`("list", "tools")` and `("uri", "weather://oslo")`, in order."""
    end: str = ""
    """A session id, from `trio-mcp sessions end`."""
    moved: list[OwnershipChange] = []


def end_message(session_id: str) -> bytes:
    """What asks a session's node to end it."""
    return msgspec.json.encode(Message("", end=session_id))


def moved_message(moves: Sequence[OwnershipChange]) -> bytes:
    """What tells nodes to give up their copies."""
    return msgspec.json.encode(Message("", moved=list(moves)))
