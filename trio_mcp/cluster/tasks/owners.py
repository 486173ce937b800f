"""Whether the process that owns a task is gone, and which node looks after a task that nobody owns."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

import trio

from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.membership import Verdict, rank
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Identity
from trio_mcp.tasks.record import TaskOwner

__all__ = ["TaskOwners"]

ASK_SECONDS = 1.0
"""How long a verdict stands for other requests."""

_MAX_KNOWN = 10_000

T = TypeVar("T")


class TaskOwners:
    """Asks the failure detector, once a second for each process at most; a process that is gone stays gone."""

    def __init__(self, detector: FailureDetector, peers: Peers) -> None:
        self._detector = detector
        self._membership = peers.membership
        self.me: Identity = peers.me
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def is_gone(self, owner: TaskOwner) -> bool:
        """Whether that process is gone; False where it is not known."""
        if owner.boot in self._gone:
            return True
        if owner.boot in (self.me.boot, self._membership.boot(owner.node)) or self._was_asked(owner.boot):
            return False
        url = self._membership.url(owner.node) or ""
        if await self._detector.look(Owner(owner.node, owner.boot, owner.epoch, url)) is not Verdict.GONE:
            return False
        _note(self._gone, owner.boot, None)
        return True

    def looks_after(self, id: str) -> bool:
        """Whether this node, of those that are ready, is the one that looks after the task or node with that id."""
        others = self._membership.ready(id)
        return not others or rank(self.me.node, id) < rank(others[0].node, id)

    def heir_of(self, id: str) -> str | None:
        """The other node that looks after it; None where there is no ready one."""
        others = self._membership.ready(id)
        return others[0].node if others else None

    @property
    def listed(self) -> list[str]:
        """The other nodes that were seen within a day."""
        return self._membership.listed

    def has_card(self, node: str) -> bool:
        """Whether a process has that node id, as far as the last beat says."""
        return node == self.me.node or self._membership.boot(node) is not None

    def _was_asked(self, boot: str) -> bool:
        now = trio.current_time()
        if now - self._asked.get(boot, -ASK_SECONDS) < ASK_SECONDS:
            return True
        _note(self._asked, boot, now)
        return False


def _note(known: OrderedDict[str, T], boot: str, value: T) -> None:
    known.pop(boot, None)
    known[boot] = value
    if len(known) > _MAX_KNOWN:
        known.popitem(last=False)
