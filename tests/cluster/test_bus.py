"""Changes on one node reach the listeners on all: once, in order, and what was missed counts as changed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from tests.cluster.nodes import InProcessCluster, Node, demo, in_process_cluster
from tests.cluster.parts import KEYS
from tests.rig.waiting import until
from trio_mcp.cluster.record import end_message
from trio_mcp.streams.bus import Change, ListChanged, Missed, ResourceUpdated

OVER_BOTH_STORES = True


class Ear:
    """What the listeners on one node are told."""

    def __init__(self, node: Node) -> None:
        self.heard: list[Change] = []
        node.app.service.bus.subscribe(self.heard.append)

    async def hears(self, *changes: Change) -> None:
        """That and nothing else, since the last time."""

        async def enough() -> bool:
            return len(self.heard) >= len(changes)

        await until(enough, f"it hears of {changes}")
        assert self.heard == list(changes)
        self.heard.clear()


async def listening(nodes: InProcessCluster, count: int = 2) -> None:
    """Everybody's subscription stands."""

    async def all_there() -> bool:
        return bool((await nodes.redis.ask("PUBSUB", "NUMSUB", KEYS.bus))[1] == count)

    await until(all_there, "all nodes listen")


async def say(nodes: InProcessCluster, **message: object) -> None:
    """As a node whose boot is `b9`."""
    await nodes.redis.ask("PUBLISH", KEYS.bus, msgspec.json.encode({"boot": "b9", **message}).decode())


async def test_what_changes_on_one_node_is_heard_on_all_in_order_and_once(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        here, there = Ear(nodes[1]), Ear(nodes[2])
        changes: list[Change] = [
            ListChanged("tools"),
            ResourceUpdated("a://1"),
            ListChanged("prompts"),
            ResourceUpdated("a://0"),
        ]
        for change in changes:
            nodes[1].app.service.bus.publish(change)
        await there.hears(*changes)
        nodes[2].app.service.bus.publish(ListChanged("resources"))
        await there.hears(ListChanged("resources"))
        # Its own would have come back by now.
        await here.hears(*changes, ListChanged("resources"))


@pytest.mark.only_redis("MONITOR shows what nodes send")
async def test_what_was_heard_from_a_peer_is_not_told_on(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes, nodes.redis.monitor() as monitor:  # type: ignore[union-attr]
        await listening(nodes)
        there = Ear(nodes[2])
        nodes[1].app.service.bus.publish(ListChanged("tools"))
        await there.hears(ListChanged("tools"))
        await nodes.meet()
        await nodes.redis.ask("ECHO", "so far")
        await monitor.says("so far")
        assert sum("PUBLISH" in line for line in monitor.lines) == 1


async def test_a_number_left_out_is_a_message_lost_and_all_counts_as_changed(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        await say(nodes, n=4, changes=[["list", "tools"]])
        await there.hears(ListChanged("tools"))
        await say(nodes, n=6, changes=[["list", "prompts"]])
        await there.hears(Missed(), ListChanged("prompts"))
        await say(nodes, n=7, changes=[["uri", "a://1"]])
        await there.hears(ResourceUpdated("a://1"))


async def test_a_message_that_comes_again_is_known_by_its_number(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        for _ in range(2):
            await say(nodes, n=1, changes=[["list", "tools"]])
        await say(nodes, n=2, changes=[["list", "prompts"]])
        await there.hears(ListChanged("tools"), ListChanged("prompts"))


async def test_each_process_counts_for_itself(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        await say(nodes, boot="b7", n=9, changes=[["list", "tools"]])
        await say(nodes, boot="b8", n=3, changes=[["list", "prompts"]])
        await say(nodes, boot="b7", n=10, changes=[["uri", "a://1"]])
        await there.hears(ListChanged("tools"), ListChanged("prompts"), ResourceUpdated("a://1"))


async def test_what_a_later_release_may_say_is_passed_over(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        changes = [["weather", "sunny"], ["list", "colours"], ["list", "tools"]]
        await say(nodes, n=1, changes=changes, mood="good")
        await there.hears(ListChanged("tools"))


async def test_after_a_broken_subscription_all_counts_as_changed_and_numbers_begin_anew(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        await say(nodes, n=4)
        there = Ear(nodes[2])
        nodes[2].proxy.cut()
        await listening(nodes, 1)
        nodes[2].proxy.mend()
        await listening(nodes)
        await there.hears(Missed())
        await say(nodes, n=9, changes=[["list", "tools"]])
        await there.hears(ListChanged("tools"))


@pytest.mark.parametrize("way", ["frozen", "away"])
async def test_what_could_not_be_told_is_told_when_redis_is_back_and_heard_once(tmp_path: Path, way: str) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        if way == "frozen":
            nodes.redis.pause()
        else:
            nodes[1].proxy.cut()
        nodes[1].app.service.bus.publish(ListChanged("tools"))

        async def failed() -> bool:
            return nodes[1].metric("trio_mcp_bus_errors_total") > 0

        await until(failed, "the change could not be told")
        nodes[1].app.service.bus.publish(ListChanged("prompts"))
        if way == "frozen":
            nodes.redis.resume()
        else:
            nodes[1].proxy.mend()
        await there.hears(ListChanged("tools"), ListChanged("prompts"))


async def test_nothing_is_told_before_the_node_serves(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        other = Node("node3", nodes[1].proxy, demo, {}, {})
        other.joins = False
        await nodes.start(other)
        await listening(nodes, 3)
        there, own = Ear(nodes[1]), Ear(other)
        other.app.service.bus.publish(ListChanged("tools"))
        await own.hears(ListChanged("tools"))
        await other.cluster.join(other.url)
        other.app.service.bus.publish(ListChanged("prompts"))
        await there.hears(ListChanged("prompts"))


async def test_a_session_is_ended_by_the_node_that_has_it(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        client, other = await nodes[1].wire.open(), await nodes[2].wire.open()
        await nodes.redis.ask("PUBLISH", KEYS.bus, end_message(client.id).decode())

        async def gone() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(gone, "the session has ended")
        await nodes[1].flushed()
        assert (await nodes.tombstone(client.id))["reason"] == "deleted"
        assert nodes[2].app.hub.local(other.id) is not None


async def test_a_client_hears_of_a_change_on_another_node_on_its_own_stream(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        client = await nodes[1].wire.open()
        await client.start("resources/subscribe", {"uri": "demo://oslo"}).result()
        stream = client.listen()
        await stream.head()
        nodes[2].server.notify_resource_updated("demo://oslo")
        message = await stream.message()
        assert (message["method"], message["params"]) == ("notifications/resources/updated", {"uri": "demo://oslo"})
        await trio.lowlevel.checkpoint()
