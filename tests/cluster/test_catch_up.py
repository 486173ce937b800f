"""A node that stood still: what may live elsewhere by now is looked up before anything of it is served."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import InProcessCluster, Node, at, in_process_cluster
from tests.cluster.parts import KEYS
from tests.cluster.test_router import reason_of, said_by
from tests.rig.waiting import until
from tests.transports.http.harness import SessionClient
from trio_mcp.cluster.clock import machine_time
from trio_mcp.cluster.record import Record
from trio_mcp.sessions.directory import Snapshot

OVER_BOTH_STORES = True


async def taken_over(nodes: InProcessCluster, client: SessionClient) -> None:
    """While the first node slept, the second claimed its session."""
    await nodes.change_record(client.id, node="node2", boot=nodes[2].boot, url=nodes[2].url, epoch=1)


@pytest.mark.parametrize("first", ["request", "heartbeat"])
async def test_a_session_that_was_taken_over_meanwhile_is_not_served_from_its_old_node(
    tmp_path: Path, clock: LeapingClock, first: str
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await taken_over(nodes, client)
        await nodes.leap(clock, 20)
        if first == "heartbeat":
            await wait_all_tasks_blocked()
        exchanges = [client.tool("where") for _ in range(3)]
        assert [await said_by(each) for each in exchanges] == ["node2"] * 3
        assert nodes[1].activity.ran == []
        assert (await nodes.record(client.id))["node"] == "node2"
        assert await nodes.tombstone(client.id) is None


async def test_a_machine_that_was_suspended_has_slept_though_no_clock_of_trio_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        async with nodes[1].beating, nodes[2].beating:
            await taken_over(nodes, client)
            monkeypatch.setattr("trio_mcp.cluster.heartbeat.machine_time", lambda: machine_time() + 20)
            assert await said_by(client.tool("where")) == "node2"
        assert nodes[1].activity.ran == []


async def test_calls_and_streams_of_a_session_that_was_taken_over_end(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        stream, call = client.listen(), client.tool("work")
        await nodes[1].activity.working.wait()
        await taken_over(nodes, client)
        await nodes.leap(clock, 20)
        assert await stream.messages() == []
        assert "closed" in (await call.error())["message"]


async def test_a_session_that_nobody_took_stays(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        await nodes.leap(clock, 20)
        assert await said_by(client.tool("where")) == "node1"
        assert nodes[1].app.hub.local(client.id) is session


async def test_a_node_that_only_lost_redis_serves_on_and_gives_up_what_is_anothers_when_it_is_back(
    tmp_path: Path, clock: LeapingClock
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        nodes[1].proxy.cut()
        await nodes.leap(clock, 20)
        assert await said_by(client.tool("where")) == "node1"
        await taken_over(nodes, client)
        nodes[1].proxy.mend()

        async def given_up() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(given_up, "the old copy is closed")
        assert await said_by(client.tool("where")) == "node2"


async def test_a_check_that_took_too_long_is_made_up_for(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True, in_haste=True) as nodes:
        client = await nodes[1].wire.open()
        async with nodes[1].beating:  # a beat in between would tell it
            await taken_over(nodes, client)
            nodes.redis.pause()
            clock.leap(11)
            assert await said_by(client.tool("where")) == "node1"
        nodes.redis.resume()

        async def given_up() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(given_up, "the old copy is closed")


async def test_what_was_taken_up_and_ended_elsewhere_meanwhile_is_over(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].cut_off()
        await taken_over(nodes, client)
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await at(nodes[2], client).delete().nothing() == 204
        await until(lambda: buried(nodes, client), "the session has ended there")
        nodes[1].proxy.mend()

        async def given_up() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(given_up, "the old copy is closed")
        assert await reason_of(at(nodes[3], client).tool("where")) == "deleted"
        assert await nodes.record(client.id) is None


async def buried(nodes: InProcessCluster, client: SessionClient) -> bool:
    return await nodes.tombstone(client.id) is not None


async def test_what_ended_elsewhere_meanwhile_is_over(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        record = await nodes[2].cluster.directory.look_up(client.id)
        assert isinstance(record, Record)
        await nodes[2].cluster.directory.remove(client.id, record)
        await nodes.leap(clock, 20)
        assert await reason_of(client.tool("where")) == "deleted"
        assert await nodes.record(client.id) is None


# The check of all records goes on beside everything else.


class SlowChecks:
    """A node whose checks do not end before the test says so."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.at_once = 0
        self.go = trio.Event()
        self._now = 0
        self._check = node.cluster._reconciler.compare
        monkeypatch.setattr(node.cluster._reconciler, "compare", self._slow)

    async def _slow(self, sessions: Iterable[Snapshot]) -> None:
        self.begun += 1
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        await self.go.wait()
        await self._check(sessions)
        self._now -= 1

    async def are(self, begun: int) -> None:
        async def have_begun() -> bool:
            return self.begun == begun

        await until(have_begun, f"{begun} checks have begun")


async def test_a_heart_beats_on_while_records_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        checks = SlowChecks(nodes[1], monkeypatch)
        nodes[1].trust.doubt_records()
        await nodes[1].heartbeat.beat()
        await checks.are(1)
        await nodes.redis.ask("DEL", KEYS.node("node1"))
        await nodes[1].heartbeat.beat()
        assert (await nodes.card("node1"))["boot"] == nodes[1].boot
        assert await said_by(client.tool("where")) == "node1"
        checks.go.set()


async def test_who_catches_up_waits_for_a_check_that_began_after_it_woke_and_of_two_only_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: LeapingClock
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        checks = SlowChecks(nodes[1], monkeypatch)
        async with nodes[1].beating:
            nodes[1].cluster._reconciler.want()
            await checks.are(1)
            await taken_over(nodes, client)
            clock.leap(11)
            exchange = client.tool("where")

            async def waits() -> bool:
                return nodes[1].cluster._reconciler.pending

            await until(waits, "a second check is due")
            checks.go.set()
            assert await said_by(exchange) == "node2"
        assert (checks.begun, checks.at_once) == (2, 1)
