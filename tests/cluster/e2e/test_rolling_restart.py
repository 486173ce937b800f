"""All three nodes are restarted, one after the other, under load."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import pytest
import trio

from tests.rig.background_clients import background_clients, called
from tests.rig.client import LegacyClient
from tests.rig.cluster import Cluster, cluster
from tests.rig.load import Call, Load, load
from tests.rig.waiting import PATIENCE, until

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

DELAY = 3.0
WINDOW = 12.0
LISTENERS = 165
"""Fifty streams on each node, and a few more."""
CALLS = 21
"""Of each official client, at least."""


async def _roll(standing: Cluster, name: str) -> float:
    """Restart one node; when it was told."""
    node = standing.node(name)
    told = trio.current_time()
    with trio.fail_after(PATIENCE):
        assert await node.terminate() == 0
    await node.start()
    return told


def _worst_tenth(traffic: Load, told: float) -> tuple[int, int]:
    """How many streams ended while a node drained, and how many of them in the worst tenth of its window."""
    begins = told + DELAY
    ends = [stream.ended for stream in traffic.streams if stream.ended is not None and stream.ended >= told]
    tenths = Counter(int(10 * (ended - begins) / WINDOW) for ended in ends)
    return len(ends), max(tenths.values())


async def test_no_client_notices_a_rolling_restart_with_restore() -> None:
    flags = ("--drain-timeout", str(WINDOW), "--drain-delay", str(DELAY))
    async with cluster(restore=True, flags=flags) as standing:
        async with (
            background_clients(standing.url) as background,
            load(standing.url, clients=LISTENERS, pause=5.0) as traffic,
        ):
            await traffic.settled()
            for name in ("node1", "node2", "node3"):
                told = await _roll(standing, name)
                total, worst = _worst_tenth(traffic, told)
                assert total >= 50
                assert worst < total, f"{name}: all {total} streams ended in one tenth of the window"
                await traffic.settled()
            await called(background, CALLS)
        assert traffic.failed == [], traffic.summary()
        assert traffic.reopened == []
        assert [stream for stream in traffic.streams if not stream.clean or stream.status != 200] == []
        assert {name for name, count in standing.runs().items() if count != 1} == set()
    for client in background:
        assert client.failures == [], client
        assert client.connects == 1, client
        assert client.calls >= CALLS, client


SHUTDOWN = "200 -32603 The server is shutting down"
NODE_GONE = "404 node_gone"


@dataclass
class _LongCall:
    """What became of a call that runs for longer than any window, and of the next one in its session."""

    fate: list[str] = field(default_factory=list)


@asynccontextmanager
async def _long_call(standing: Cluster, name: str) -> AsyncIterator[_LongCall]:
    """It runs on that node when the block begins; its end is waited for after the block."""
    seen, call = _LongCall(), f"long-{name}"
    here, anywhere = LegacyClient(standing.node(name).url + "/mcp"), LegacyClient(standing.url)

    async def ask() -> None:
        seen.fate.append((await here.tool("count_runs", call=call, seconds=600)).error)
        anywhere.session = here.session
        refused = await anywhere.tool("where")
        seen.fate.append(f"{refused.status} {refused.reason}")

    async def runs() -> bool:
        return call in standing.runs()

    with closing(here), closing(anywhere):
        assert not (await here.initialize()).error
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await until(runs, f"{call} runs")
                yield seen


def _fates(lost: list[Call]) -> dict[int, list[str]]:
    """How the calls that failed did, by client, in the order they were made."""
    fates: dict[int, list[str]] = {}
    for call in lost:
        fates.setdefault(call.client, []).append(f"404 {call.reason}" if call.status == 404 else call.error)
    return fates


async def test_without_restore_calls_fail_only_after_the_window_cut_short_once_or_with_the_404() -> None:
    window = 4.0
    flags = ("--drain-timeout", str(window), "--drain-delay", str(DELAY))
    async with cluster(restore=False, flags=flags) as standing:
        async with load(standing.url, clients=30, pause=0.6) as traffic:
            await traffic.settled()
            for name in ("node1", "node2", "node3"):
                before = len(traffic.calls)
                async with _long_call(standing, name) as long:
                    told = await _roll(standing, name)
                assert long.fate == [SHUTDOWN, NODE_GONE]
                await traffic.settled()
                lost = [call for call in traffic.calls[before:] if call.error]
                assert lost, "its sessions ended with it"
                assert {call.owner for call in lost} == {name}
                for fate in _fates(lost).values():
                    assert fate in ([NODE_GONE], [SHUTDOWN, NODE_GONE]), traffic.summary()
                # The one time: the window is what is promised, and it begins when the node was told, or later.
                assert all(call.ended - told >= DELAY + window for call in lost)
        ran = standing.runs()
    refused = {call.name for call in traffic.failed if call.status == 404}
    assert refused.isdisjoint(ran), "a call that met the 404 has not begun"
    assert set(ran.values()) == {1}
