"""Reads, with each beat, which sessions other nodes have claimed or ended: a log in Redis, for messages of the bus that were lost.

beat ──XRANGE from the last entry read──▶ changes since then ──▶ copies here that are another node's are closed
         └─ that entry is gone: too many changes, or another Redis ──▶ all records are compared
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_mcp.cluster.record import Message, OwnershipChange, read
from trio_mcp.cluster.store.port import CHANGES_START, ChangesFrom, LastChange, OperationRefused

__all__ = ["OwnershipLog"]

READ_AT_ONCE = 2_000
"""Entries; if there are more, the next beat comes at once."""


class OwnershipLog:
    """This node's position in the log. `changed` is called with each entry, `missed` when entries may have been missed."""

    def __init__(self, *, changed: Callable[[OwnershipChange], None], missed: Callable[[], None]) -> None:
        self._changed = changed
        self._missed = missed
        self._last: bytes | None = None
        """The entry read last; None before the first beat, when this node has no session that could be concerned."""

    def operation(self) -> LastChange | ChangesFrom:
        """What reads the entries since the last time."""
        if self._last is None:
            return LastChange()
        return ChangesFrom(self._last, READ_AT_ONCE)

    def heard(self, reply: Any) -> bool:
        """Take the result of `operation`; whether there is more to read at once. After a refusal the next beat reads the same again."""
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
