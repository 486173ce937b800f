"""Redis goes away and comes back, in four ways, one after the other, under load: what each side saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from tests.rig.background_clients import BackgroundClient, background_clients, called
from tests.rig.cluster import Cluster, cluster
from tests.rig.load import Load, load
from tests.rig.nodes import Node
from tests.rig.records import wrong_records
from tests.rig.redis import RedisServer
from tests.rig.request_rounds import Asked, RequestRounds, sessions_that_moved
from tests.rig.routing import patient, shipped
from tests.rig.waiting import PATIENCE

__all__ = ["CALLS", "CLIENTS", "KINDS", "Outage", "Story", "observe"]

CLIENTS = 15
CALLS = 101
"""Of each official client, at least."""
MOVED = 48
"""So many that none is asked for twice while it matters: a node remembers where a session is."""
AFTERWARDS = 6.0
"""Seconds for which requests go on when Redis is back."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How Redis goes, for how many seconds it is away, how it comes back."""

    go: Callable[[RedisServer], Awaitable[None]]
    seconds: float
    come_back: Callable[[RedisServer], Awaitable[None]]


async def _start_empty(redis: RedisServer) -> None:
    await redis.start(empty=True)


async def _freeze(redis: RedisServer) -> None:
    redis.pause()


async def _thaw(redis: RedisServer) -> None:
    redis.resume()


_WAYS = {
    "restarted empty at once": _Way(RedisServer.stop, 0, _start_empty),
    "stopped, restarted empty": _Way(RedisServer.stop, 6, _start_empty),
    "stopped, restarted from its append-only file": _Way(RedisServer.stop, 20, RedisServer.start),
    "frozen": _Way(_freeze, 20, _thaw),
}
KINDS = tuple(_WAYS)


@dataclass(slots=True)
class Outage:
    """What was seen from the moment Redis went until some time after its return."""

    asked: list[Asked] = field(default_factory=list)
    right: bool = False
    """Whether, after its return, Redis had the right record of every session."""
    wrong: list[str] = field(default_factory=list)
    """The last faults that were found."""
    restored: float = 0.0
    """Sessions taken over meanwhile."""

    def of(self, what: str, *, away: bool | None = None) -> list[Asked]:
        """The requests of that sort."""
        return [asked for asked in self.asked if asked.what == what and away in (None, asked.away)]


@dataclass(slots=True)
class Story:
    """All outages, the load and the clients beside it."""

    traffic: Load
    background: list[BackgroundClient]
    usual: list[Asked] = field(default_factory=list)
    """The answers before the first outage."""
    outages: dict[str, Outage] = field(default_factory=dict)
    probes: list[tuple[str, str, int]] = field(default_factory=list)
    """Node, path and status."""
    threads: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each node: before the first outage, and some time after the last."""
    runs: dict[str, int] = field(default_factory=dict)
    """How often each of the calls ran."""


async def observe() -> Story:
    """One cluster, restore on; it takes a minute and a half.

    No node dies. If the balancer took one for dead, its clients would come to nodes that cannot look up their sessions meanwhile.
    """
    async with cluster(restore=True, appendonly=True, routing=[patient(shipped)]) as whole:
        rounds = RequestRounds(whole, await sessions_that_moved(whole, MOVED))
        async with background_clients(whole.url) as background, load(whole.url, clients=CLIENTS, pause=1.0) as traffic:
            story = Story(traffic, background)
            await traffic.settled(2)
            await rounds.make_rounds(story.usual, 3, away=False)
            threads = {node.name: node.run.threads() for node in whole.nodes}
            async with _probed(whole, story.probes):
                for kind, way in _WAYS.items():
                    story.outages[kind] = await _observe(rounds, way)
            await traffic.settled()
            await called(background, CALLS)
        story.threads = {
            each.name: (threads[each.name], await _threads(each, threads[each.name])) for each in whole.nodes
        }
        story.runs = dict(whole.runs())
    return story


async def _observe(rounds: RequestRounds, way: _Way) -> Outage:
    whole, outage = rounds.whole, Outage()
    rounds.deleted.clear()  # an empty Redis has none of the older tombstones, and need not
    restored = await whole.metric("trio_mcp_restores_total")
    await way.go(whole.redis)
    if way.seconds:
        await rounds.make_rounds(outage.asked, way.seconds, away=True)
    await way.come_back(whole.redis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rounds.make_rounds, outage.asked, AFTERWARDS, away=False))
        await _records_are_right(rounds, outage)
    outage.restored = await whole.metric("trio_mcp_restores_total") - restored
    return outage


async def _records_are_right(rounds: RequestRounds, outage: Outage) -> None:
    with trio.move_on_after(PATIENCE):
        while wrong := await wrong_records(rounds.whole, rounds.deleted):
            outage.wrong = wrong
            await trio.sleep(0.1)
        outage.right = True


@asynccontextmanager
async def _probed(whole: Cluster, seen: list[tuple[str, str, int]]) -> AsyncIterator[None]:
    async def probe(node: Node, path: str) -> None:
        while True:
            seen.append((node.name, path, await node.probe(path, PATIENCE)))
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        for node in whole.nodes:
            for path in ("/livez", "/readyz"):
                nursery.start_soon(probe, node, path)
        yield
        nursery.cancel_scope.cancel("seen enough")


async def _threads(node: Node, before: int) -> int:
    """Idle worker threads end after ten seconds."""
    with trio.move_on_after(PATIENCE):
        while node.run.threads() > before:  # noqa: ASYNC110
            await trio.sleep(0.2)
    return node.run.threads()
