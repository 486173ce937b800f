"""All three nodes are restarted, one after the other, under load."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from tests.rig.cluster import Cluster, cluster
from tests.rig.load import Load, load
from tests.rig.riding import riding
from tests.rig.waiting import PATIENCE

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

DELAY = 3.0
WINDOW = 12.0
LISTENERS = 330
"""A hundred streams on each node, and a few more."""


async def _roll(standing: Cluster, name: str) -> float:
    """Restart one node; when it was told."""
    node = standing.node(name)
    told = trio.current_time()
    with trio.fail_after(PATIENCE):
        assert await node.terminate() == 0
    await node.start()
    return told


def _worst_tenth(crowd: Load, told: float) -> tuple[int, int]:
    """How many streams ended while a node drained, and how many of them in the worst tenth of its window."""
    begins = told + DELAY
    ends = [stream.ended for stream in crowd.streams if stream.ended is not None and stream.ended >= told]
    tenths = Counter(int(10 * (ended - begins) / WINDOW) for ended in ends)
    return len(ends), max(tenths.values())


async def test_no_client_notices_a_rolling_restart_with_restore() -> None:
    flags = ("--drain-timeout", str(WINDOW), "--drain-delay", str(DELAY))
    async with cluster(restore=True, flags=flags) as standing:
        async with riding(standing.url) as riders, load(standing.url, clients=LISTENERS, pause=5.0) as crowd:
            await crowd.settled()
            for name in ("node1", "node2", "node3"):
                told = await _roll(standing, name)
                total, worst = _worst_tenth(crowd, told)
                assert total >= 100
                assert worst < total, f"{name}: all {total} streams ended in one tenth of the window"
                await crowd.settled()
        assert crowd.failed == [], crowd.summary()
        assert crowd.reopened == []
        assert [stream for stream in crowd.streams if not stream.clean or stream.status != 200] == []
        assert {name for name, count in standing.runs().items() if count != 1} == set()
    for rider in riders:
        assert rider.failures == [], rider
        assert rider.connects == 1, rider
        assert rider.calls > 20, rider


async def test_without_restore_calls_fail_only_with_the_404_and_only_after_the_window() -> None:
    window = 4.0
    flags = ("--drain-timeout", str(window), "--drain-delay", str(DELAY))
    async with cluster(restore=False, flags=flags) as standing:
        async with load(standing.url, clients=30, pause=0.3) as crowd:
            await crowd.settled()
            for name in ("node1", "node2", "node3"):
                before = len(crowd.calls)
                told = await _roll(standing, name)
                await crowd.settled()
                lost = [call for call in crowd.calls[before:] if call.error]
                assert lost, "its sessions ended with it"
                assert {(call.status, call.reason) for call in lost} == {(404, "node_gone")}, crowd.summary()
                assert all(call.ended - told >= DELAY + window for call in lost)
