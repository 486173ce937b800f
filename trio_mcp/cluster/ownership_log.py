"""The stream of claims and ends that other nodes wrote, read with each beat: what the bus has lost is heard of here.

beat ──XRANGE from the last entry read──▶ moves since then ──▶ our copies that are another's are closed
         └─ that entry is there no more: too many moves, or another Redis ──▶ all records are checked
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_mcp.cluster.bus_message import Message
from trio_mcp.cluster.record import OwnershipChange, read
from trio_mcp.cluster.store.port import CHANGES_START, ChangesFrom, LastChange, OperationRefused

__all__ = ["OwnershipLog"]

READ_AT_ONCE = 2_000


class OwnershipLog:
    """Where this node is in the stream. `moved` is called with each move, `missed` when some may have been passed by."""

    def __init__(self, *, changed: Callable[[OwnershipChange], None], missed: Callable[[], None]) -> None:
        self._changed = changed
        self._missed = missed
        self._last: bytes | None = None
        """The entry read last; None before the first beat, when this node has no session that could have moved."""

    def operation(self) -> LastChange | ChangesFrom:
        """What asks for the moves since the last time."""
        if self._last is None:
            return LastChange()
        return ChangesFrom(self._last, READ_AT_ONCE)

    def heard(self, reply: Any) -> bool:
        """Take the result of `operation`; whether there is more to be read at once. A refusal leaves all as it was."""
        if isinstance(reply, OperationRefused):
            return False
        if self._last is None:
            self._last = reply or CHANGES_START
            return False
        entries: list[tuple[bytes, bytes]] = list(reply)
        if entries and entries[0][0] == self._last:
            del entries[0]
        elif self._last != CHANGES_START:
            self._missed()
            self._last = CHANGES_START if not entries else self._last
        for entry, message in entries:
            self._last = entry
            self._take(message)
        return len(reply) == READ_AT_ONCE

    def _take(self, encoded: bytes) -> None:
        message = read(encoded, Message)
        for change in [] if message is None else message.moved:
            self._changed(change)
