"""Sends every sort of request that needs another node or Redis to every node, round after round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import cycle

import trio

from tests.rig.client import Answer, LegacyClient
from tests.rig.cluster import Cluster
from tests.rig.nodes import Node
from tests.rig.records import on_record
from tests.rig.waiting import PATIENCE, until

__all__ = ["Asked", "RequestRounds", "patiently", "sessions_that_moved"]

PAUSE = 0.4
NOBODYS = "ghost.AAAAAAAAAAAAAAAAAAAAAAAA"
"""A session id of a node that never existed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to one node, and what came of it."""

    what: str
    """opening · own · another's · moved · deleting · deleted · nobody's"""
    away: bool
    """While Redis was."""
    answered: bool
    status: int
    reason: str
    relay: str


@dataclass(slots=True)
class RequestRounds:
    """`moved` are sessions whose ids name a node that they are no longer on."""

    whole: Cluster
    moved: Iterable[str]
    deleted: list[str] = field(default_factory=list)
    """The sessions it has ended."""
    _number: int = 0

    def __post_init__(self) -> None:
        self.moved = cycle(self.moved)

    async def make_rounds(self, seen: list[Asked], seconds: float, *, away: bool) -> None:
        """Send rounds to all nodes at once for so many seconds, and at least one."""
        over = trio.current_time() + seconds
        nodes = self.whole.nodes
        while True:
            self._number += 1
            async with trio.open_nursery() as nursery:
                for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
                    nursery.start_soon(self._visit, _Notes(seen, away), node, following)
            if trio.current_time() > over:
                return
            await trio.sleep(PAUSE)

    async def _visit(self, notes: _Notes, node: Node, following: Node) -> None:
        session = await notes.take("opening", node, LegacyClient.initialize)
        if session:
            await notes.take("own", node, _where, session)
            await notes.take("another's", following, _where, session)
        if session and self._number % 2:
            await notes.take("deleting", following, LegacyClient.delete, session)
            self.deleted.append(session)
            await notes.take("deleted", node, _where, session)
            await notes.take("deleted", following, _where, session)
        await notes.take("moved", node, _where, next(iter(self.moved)))
        await notes.take("nobody's", node, _where, NOBODYS)


@dataclass(slots=True)
class _Notes:
    seen: list[Asked]
    away: bool

    async def take(
        self, what: str, node: Node, do: Callable[[LegacyClient], Awaitable[Answer]], session: str = ""
    ) -> str:
        """Send a request to a node and record the answer; gives the client's session."""
        client = LegacyClient(f"{node.url}/mcp", fresh=True)
        client.session = session
        answer = Answer()
        with trio.move_on_after(PATIENCE) as waiting:
            answer = await do(client)
        # A JSON-RPC error with status 200 is no success.
        status = answer.status if not (answer.status == 200 and answer.error) else 0
        self.seen.append(Asked(what, self.away, not waiting.cancelled_caught, status, answer.reason, answer.relay))
        return client.session


async def _where(client: LegacyClient) -> Answer:
    return await client.tool("where")


async def sessions_that_moved(whole: Cluster, count: int) -> list[str]:
    """Sessions of node3 that now live on node1, because node3 died once and is back."""
    node1, node3 = whole.node("node1"), whole.node("node3")
    moved = [LegacyClient(f"{node3.url}/mcp", fresh=True) for _ in range(count)]
    for client in moved:
        assert not (await client.initialize()).error
    await on_record(whole, *(client.session for client in moved), initialized=True)
    await node3.kill()
    await node3.start()
    for client in moved:
        client.url = f"{node1.url}/mcp"
        answer = await patiently(client)
        assert answer.told["restored"], answer
    return [client.session for client in moved]


async def patiently(client: LegacyClient) -> Answer:
    """The answer of `where`, asked again while it is 503, as it is when Redis is slow."""

    async def asked() -> Answer | None:
        answer = await _where(client)
        return None if answer.status == 503 else answer

    found = await until(asked, "an answer other than 503")
    assert found is not None
    return found
