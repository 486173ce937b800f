"""Requests that wait for the same process share what is found out about it, and not each other's patience."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import trio
import trio.testing

from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.membership import Verdict
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.outcomes import Refused
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Identity, NodeCard
from trio_mcp.cluster.siblings import Siblings

OWNER = Owner("node1", "b1", 0, "http://node1:8000")


class Beating:
    """A Redis with the card of a node that beat half a second ago, and a network in which its URL answers from some time on."""

    def __init__(self, answers_at: float) -> None:
        self.probes = 0
        self._answers_at = answers_at

    async def run(self, commands: list[Any]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [msgspec.json.encode(NodeCard("b1", OWNER.url, "ready", 1, 1)), 14.5, True]

    async def probe(self, url: str) -> str | Refused:
        self.probes += 1
        await trio.lowlevel.checkpoint()
        return "b1" if trio.current_time() >= self._answers_at else Refused()


def detector(world: Beating) -> FailureDetector:
    other: Any = world
    return FailureDetector(other, Peers(Identity("node2", "b2"), Siblings()), other)


async def verdicts(world: Beating, came: list[float]) -> dict[float, tuple[Verdict, float]]:
    """What each request that came at one of these times was told, and when."""
    made, found, start = detector(world), {}, trio.current_time()

    async def request(at: float) -> None:
        await trio.sleep(at)
        verdict = await made.wait(OWNER, Refused(), trio.current_time())
        found[at] = verdict, trio.current_time() - start

    async with trio.open_nursery() as nursery:
        for at in came:
            nursery.start_soon(request, at)
    return found


async def test_a_request_that_came_later_is_not_given_up_with_the_first(autojump_clock: trio.testing.MockClock) -> None:
    world = Beating(answers_at=trio.current_time() + 8)
    found = await verdicts(world, [0, 5.5, 5.6])
    assert {at: verdict for at, (verdict, _) in found.items()} == {
        0: Verdict.UNKNOWN,
        5.5: Verdict.ALIVE,
        5.6: Verdict.ALIVE,
    }
    assert [round(when) for _, when in found.values()] == [6, 8, 8]


async def test_requests_that_came_together_are_told_together_and_asked_for_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = Beating(answers_at=trio.current_time() + 60)
    found = await verdicts(world, [0.01 * n for n in range(10)])
    assert {verdict for verdict, _ in found.values()} == {Verdict.UNKNOWN}
    assert max(at for _, at in found.values()) < 6.7
    assert world.probes < 50


async def test_a_process_whose_node_id_another_has_is_silent_for_ever() -> None:
    made = detector(Beating(answers_at=0.0))
    assert await made.silent_for("node1", "b1") == 0.5
    assert await made.silent_for("node1", "") == 0.5
    assert await made.silent_for("node1", "an earlier one") == math.inf
