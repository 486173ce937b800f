"""The process that owns a session, and a cache of the owners of sessions that are on other nodes.

The cache saves a question to Redis. An entry is dropped as soon as its owner does not answer for the session, or when this node hears
that the session has another owner or has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Owner", "OwnerCache"]

MAX_OWNERS = 10_000


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has a session, and how to reach it."""

    node: str
    boot: str
    """Empty when unknown."""
    epoch: int
    """How often the session was restored; -1 when unknown."""
    url: str
    """Such as `http://10.0.0.7:8000`."""


class OwnerCache:
    """Owners by session id. Past `MAX_OWNERS` entries the least recently used one is dropped."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Owner] = OrderedDict()

    def get(self, session_id: str) -> Owner | None:
        """The owner, if it is known."""
        owner = self._known.get(session_id)
        if owner is not None:
            self._known.move_to_end(session_id)
        return owner

    def remember(self, session_id: str, owner: Owner) -> None:
        """Note that `owner` answered for the session."""
        self._known[session_id] = owner
        self._known.move_to_end(session_id)
        if len(self._known) > MAX_OWNERS:
            self._known.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """Drop the entry: its owner did not answer, or does not have the session any more."""
        self._known.pop(session_id, None)

    def changed(self, session_id: str, epoch: int, *, ended: bool) -> None:
        """Drop the entry if it is older than this life of the session, or if that life, the entry's own, has ended."""
        owner = self._known.get(session_id)
        if owner is not None and (epoch > owner.epoch or (ended and epoch == owner.epoch)):
            self.forget(session_id)
