"""The stream of claims and ends that other nodes wrote, read with each beat: what the bus has lost is heard of here.

beat ──XRANGE from the last entry read──▶ moves since then ──▶ our copies that are another's are closed
         └─ that entry is there no more: too many moves, or another Redis ──▶ all records are checked
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_mcp.cluster.bus_message import Message
from trio_mcp.cluster.record import Keys, OwnershipChange, read
from trio_mcp.cluster.redis.link import Command

__all__ = ["OwnershipLog"]

READ_AT_ONCE = 2_000

_START = b"0-0"


class OwnershipLog:
    """Where this node is in the stream. `moved` is called with each move, `missed` when some may have been passed by."""

    def __init__(self, keys: Keys, *, moved: Callable[[OwnershipChange], None], missed: Callable[[], None]) -> None:
        self._keys = keys
        self._moved = moved
        self._missed = missed
        self._last: bytes | None = None
        """The entry read last; None before the first beat, when this node has no session that could have moved."""

    def command(self) -> Command:
        """What asks for the moves since the last time."""
        if self._last is None:
            return ("XREVRANGE", self._keys.moves, "+", "-", "COUNT", 1)
        return ("XRANGE", self._keys.moves, self._last, "+", "COUNT", READ_AT_ONCE)

    def heard(self, reply: Any) -> bool:
        """Take the reply to `command`; whether there is more to be read at once. A refusal leaves all as it was."""
        if not isinstance(reply, list):
            return False
        entries: list[tuple[bytes, list[bytes]]] = [(entry, fields) for entry, fields in reply]
        if self._last is None:
            self._last = entries[0][0] if entries else _START
            return False
        if entries and entries[0][0] == self._last:
            del entries[0]
        elif self._last != _START:
            self._missed()
            self._last = _START if not entries else self._last
        for entry, fields in entries:
            self._last = entry
            self._take(fields)
        return len(reply) == READ_AT_ONCE

    def _take(self, fields: list[bytes]) -> None:
        message = read(fields[1], Message) if len(fields) == 2 else None
        for move in [] if message is None else message.moved:
            self._moved(move)
