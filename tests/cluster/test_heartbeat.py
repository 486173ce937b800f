"""The heartbeat: what nodes know of each other, and what a node may conclude from a card that is missing."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import InProcessCluster, Node, at, demo, in_process_cluster
from tests.cluster.parts import KEYS
from tests.cluster.peers import free_url, listening, ok, read_request
from tests.cluster.test_router import reason_of, said_by, stand
from tests.rig.waiting import until
from trio_mcp.cluster.joining import NodeIdTaken
from trio_mcp.cluster.membership import CARD_SECONDS
from trio_mcp.cluster.peer.outcomes import Refused, Unreachable
from trio_mcp.cluster.store_trust import ANOTHER_RENEWED_SECONDS
from trio_mcp.sessions.node_state import NodeState

OVER_BOTH_STORES = True


def names(node: Node, session_id: str = "") -> list[str]:
    """The ready peers, in their order."""
    return [peer.node for peer in node.membership.ready(session_id)]


async def test_nodes_know_where_their_peers_are_which_process_it_is_and_how_it_fares(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes[1].wire.open()
        await nodes.meet()
        card = await nodes.card("node1")
        assert (card["boot"], card["url"], card["state"], card["sessions"]) == (nodes[1].boot, nodes[1].url, "ready", 1)
        assert (nodes[2].membership.boot("node1"), nodes[2].membership.url("node1")) == (nodes[1].boot, nodes[1].url)
        assert names(nodes[1]) == ["node2"]


async def test_a_card_falls_fifteen_seconds_after_its_nodes_last_word(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        assert 10 < await nodes.redis.ask("TTL", KEYS.node("node1")) <= 15


async def test_only_who_takes_new_work_is_a_ready_peer(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3) as nodes:
        assert set(names(nodes[1])) == {"node2", "node3"}
        nodes[3].app.life.enter(NodeState.DRAINING)
        await nodes.meet()
        assert names(nodes[1]) == ["node2"]
        assert nodes[1].membership.boot("node3") == nodes[3].boot


async def test_a_node_that_does_not_reach_itself_at_its_address_shows_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        other = Node("node3", nodes[1].proxy, demo, {}, {})
        other.joins = False
        await nodes.start(other)
        with caplog.at_level(logging.WARNING, "trio_mcp.cluster"):
            await other.cluster.join(nodes[1].url)
        assert "not reached at its own URL" in caplog.messages
        await nodes.meet()
        assert nodes[1].membership.boot("node3") == other.boot
        assert nodes[1].membership.url("node3") == ""
        assert names(nodes[1]) == ["node2"]


async def test_a_peer_with_another_secret_is_named_once_in_the_log_of_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        with caplog.at_level(logging.ERROR, "trio_mcp.cluster"):
            await nodes.start(Node("node3", nodes[1].proxy, demo, {}, {"secrets": [b"another"]}))
            await nodes.meet()
            await nodes.meet()
    said = [
        record.__dict__["mcp_fields"]["peer"] for record in caplog.records if "a key that is not here" in record.message
    ]
    assert sorted(said) == ["node1", "node2", "node3", "node3"]


async def test_a_key_that_only_verifies_as_yet_is_no_mistake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with in_process_cluster(tmp_path, secrets=[b"old", b"new"]) as nodes:
        with caplog.at_level(logging.ERROR, "trio_mcp.cluster"):
            await nodes.start(Node("node3", nodes[1].proxy, demo, {}, {"secrets": [b"new", b"old"]}))
            await nodes.meet()
    assert not caplog.records


async def test_an_address_that_works_only_later_is_shown_then(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        other = Node("node3", nodes[1].proxy, demo, {}, {})
        other.joins = False
        await nodes.start(other)
        other.deaf = True
        await other.cluster.join(other.url)
        await nodes.meet()
        assert "node3" not in names(nodes[1])
        other.deaf = False
        await other.beat()
        await nodes.meet()
        assert "node3" in names(nodes[1])


async def test_all_nodes_agree_on_the_order_of_peers_for_a_session_and_sessions_differ_in_it(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3) as nodes:
        firsts = set()
        for number in range(40):
            before = [names(node, f"node1.{number}")[0] for node in nodes.nodes]
            # Each sees two of the three: in one order of all, one comes before both others, and one before one.
            assert sorted(before.count(node.name) for node in nodes.nodes) == [0, 1, 2]
            firsts.add(max(before, key=before.count))
        assert firsts == {"node1", "node2", "node3"}


def double(nodes: InProcessCluster, number: int = 1) -> Node:
    """A later process with the name of a node; not started yet."""
    other = Node(f"node{number}", nodes[2].proxy, demo, {}, {"restore": True, "drain_seconds": 1.0})
    other.cluster._peers.me.started = nodes[number].cluster._peers.me.started + 1
    return other


async def test_a_second_process_under_a_name_does_not_start_while_the_first_lives_and_says_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.joining.CARD_SECONDS", 0.5)
    async with in_process_cluster(tmp_path) as nodes:
        later = double(nodes)
        later.joins = False
        await nodes.start(later)
        with pytest.raises(NodeIdTaken) as told:
            await later.cluster.join(later.url)
        assert all(word in str(told.value) for word in ("node1", nodes[1].url, nodes[1].boot, "--node-id"))
        assert later.app.life.state is NodeState.JOINING
        await nodes.meet()
        assert nodes[2].membership.boot("node1") == nodes[1].boot
        assert not nodes[1].cluster.doubled.is_set()


async def test_a_second_process_waits_for_the_first_that_drains_and_claims_nothing_meanwhile(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        nodes[1].app.life.enter(NodeState.DRAINING)
        await nodes[1].beat()
        later = double(nodes)
        later.joins = False
        await nodes.start(later)
        nursery.start_soon(later.cluster.join, later.url)
        await trio.testing.wait_all_tasks_blocked()
        assert later.app.life.state is NodeState.JOINING
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        async with nodes[1].beating:
            await nodes[1].heartbeat.leave()
            await until(partial(is_ready, later), "it has the name")
        await nodes.meet()
        assert nodes[2].membership.boot("node1") == later.boot


@pytest.mark.parametrize("where", ["nowhere", "its own", "at a peer"])
async def test_the_name_of_a_process_that_died_is_taken(tmp_path: Path, where: str) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        later = double(nodes)
        later.joins = False
        await nodes.start(later)
        url = {"nowhere": free_url(), "its own": later.url, "at a peer": nodes[2].url}[where]
        await nodes.change_card("node1", url=url)
        await later.beat()
        await later.cluster.join(later.url)
        assert (await nodes.card("node1"))["boot"] == later.boot
        assert await said_by(at(later, client).tool("where")) == "node1"
        assert (await nodes.record(client.id))["boot"] == later.boot


async def test_while_redis_is_away_a_node_starts_without_asking_whose_its_name_is(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        later = double(nodes)
        later.proxy.cut()
        await nodes._nursery.start(later.run, 0)
        assert later.app.life.state is NodeState.READY
        later._whole.cancel()


async def is_ready(node: Node) -> bool:
    return node.app.life.state is NodeState.READY


async def both_under_one_name(nodes: InProcessCluster) -> Node:
    """Redis was away when the second process began."""
    later = double(nodes)
    later.proxy.cut()
    await nodes._nursery.start(later.run, 0)
    nodes.nodes.append(later)
    later.proxy.mend()
    return later


async def test_of_two_processes_under_one_name_the_later_has_to_go_and_the_earlier_is_not_touched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        later = await both_under_one_name(nodes)
        await nodes.redis.ask("DEL", KEYS.node("node1"))
        await later.beat()
        assert (await nodes.card("node1"))["boot"] == later.boot
        await nodes[1].beat()
        assert (await nodes.card("node1"))["boot"] == nodes[1].boot
        await later.beat()
        assert later.cluster.doubled.is_set()
        assert not nodes[1].cluster.doubled.is_set()
        assert caplog.messages.count("an earlier process has this node's id") == 1


@pytest.mark.parametrize("where", ["nowhere", "here", "at a peer"])
async def test_a_dead_process_whose_card_says_that_it_is_the_earlier_one_makes_nobody_go(
    tmp_path: Path, where: str
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        url = {"nowhere": free_url(), "here": nodes[1].url, "at a peer": nodes[2].url}[where]
        async with nodes[1].beating:
            await nodes.change_card("node1", url=url, **of_earlier(nodes, "0123456789abcdef"))
        for _ in range(2):
            await nodes[1].beat()
        assert (await nodes.card("node1"))["boot"] == "0123456789abcdef"
        await nodes.redis.ask("DEL", KEYS.node("node1"))
        await nodes[1].beat()
        assert (await nodes.card("node1"))["boot"] == nodes[1].boot
        assert not nodes[1].cluster.doubled.is_set()


async def test_an_earlier_process_that_cannot_be_reached_is_believed_when_its_card_does_not_fall(
    tmp_path: Path, clock: LeapingClock
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        doubled = nodes[1].cluster.doubled
        async with nodes[1].beating:
            await nodes.change_card("node1", url="", **of_earlier(nodes, "0123456789abcdef"))
        await nodes[1].beat()
        assert nodes[1].trust.stood_for == 0
        async with nodes[1].beating:  # or it would see the next one too early
            await nodes.change_card("node1", **of_earlier(nodes, "fedcba9876543210"))
            await nodes.leap(clock, ANOTHER_RENEWED_SECONDS + 1)
        await nodes[1].beat()
        assert not doubled.is_set()
        await nodes.leap(clock, ANOTHER_RENEWED_SECONDS + 1)
        await nodes[1].beat()
        assert doubled.is_set()


def of_earlier(nodes: InProcessCluster, boot: str) -> dict[str, Any]:
    """What a card says of another process with the name of the first node, by its clock an earlier one."""
    return {"boot": boot, "started": nodes[1].cluster._peers.me.started - 3_600_000}


async def test_who_was_doubled_takes_down_nothing_of_the_other(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        later = await both_under_one_name(nodes)
        await later.beat()
        await later.heartbeat.leave()
        await nodes.meet()
        assert nodes[2].membership.boot("node1") == nodes[1].boot
        assert await nodes.redis.ask("ZSCORE", KEYS.nodes, "node1") is not None


async def test_who_leaves_is_gone_at_once(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        async with nodes[1].beating:  # its heart stops first
            await nodes[1].heartbeat.leave()
            await nodes[2].beat()
            assert nodes[2].membership.boot("node1") is None
            assert await nodes.redis.ask("ZSCORE", KEYS.nodes, "node1") is None


async def test_a_card_stands_since_it_was_put_up(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        before, began = nodes[1].trust.stood_for, trio.current_time()
        for _ in range(2):
            await nodes.leap(clock, 8)
            await nodes.meet()
        passed = trio.current_time() - began
        assert passed > 16
        assert nodes[1].trust.stood_for - before == pytest.approx(passed, abs=0.5)


@pytest.mark.parametrize(
    "how", ["emptied", "away", pytest.param("refusing", marks=pytest.mark.only_redis("values of other types"))]
)
async def test_a_card_that_fell_or_could_not_be_shown_has_not_stood(
    tmp_path: Path, clock: LeapingClock, how: str
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes.leap(clock, 8)
        await nodes.meet()
        assert nodes[1].trust.stood_for > 8
        if how == "emptied":
            await nodes.redis.ask("FLUSHALL")
        elif how == "away":
            nodes[1].proxy.cut()
        else:
            script = "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'not a card')"
            await nodes.redis.ask("EVAL", script, "1", KEYS.node("node1"))
        await nodes[1].beat()
        assert nodes[1].trust.stood_for < 8


async def test_a_node_nobody_saw_for_a_day_is_forgotten(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        long_ago = str(time.time() - 25 * 3600)
        await nodes.redis.ask("ZADD", KEYS.nodes, long_ago, "node8")
        await nodes[1].beat()
        assert sorted(await nodes.redis.ask("ZRANGE", KEYS.nodes, "0", "-1")) == [b"node1", b"node2"]


async def test_a_node_whose_card_fell_is_still_looked_for_where_it_was(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        nodes[1].proxy.cut()
        await nodes.drop_card("node1")
        assert nodes[2].membership.boot("node1") is None
        assert nodes[2].membership.url("node1") == nodes[1].url


# While Redis is away, a card is as good as the time when it was read.


async def test_who_has_a_dead_nodes_address_by_now_is_sent_nothing_of_a_client_while_redis_is_away(
    tmp_path: Path, clock: LeapingClock
) -> None:
    came: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            came.append(await read_request(stream))
            await stream.send_all(ok(b"Welcome"))

    async with in_process_cluster(tmp_path, restore=True) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open(headers={"authorization": "Bearer secret"})
        far = at(nodes[2], client)
        assert await said_by(far.tool("where")) == "node1"
        await nodes[2].cut_off()
        await nodes[1].die()
        port = int(nodes[1].url.rpartition(":")[2])
        listeners, _ = await listening(port)
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        await nodes.leap(clock, CARD_SECONDS + 1)
        assert await reason_of(far.tool("where"), 503) == "directory_unavailable"
        assert {each.split(b"\r\n")[0] for each in came} == {b"GET /livez HTTP/1.1"}
        assert not any(word in each for each in came for word in (b"secret", client.id.encode()))
        nursery.cancel_scope.cancel("seen enough")


async def test_a_peer_is_relayed_to_while_redis_is_away_and_asked_now_and_then_whether_it_is_one_of_us(
    tmp_path: Path, clock: LeapingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.membership.PROOF_SECONDS", 60.0)
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        far = at(nodes[2], await nodes[1].wire.open())
        await nodes[2].cut_off()
        asked = probes(nodes[2], monkeypatch)
        assert await said_by(far.tool("where")) == "node1"
        assert asked == []
        await nodes.leap(clock, CARD_SECONDS + 1)
        for _ in range(3):
            assert await said_by(far.tool("where")) == "node1"
        assert asked == [nodes[1].url]
        await nodes.leap(clock, 61)
        assert await said_by(far.tool("where")) == "node1"
        assert asked == [nodes[1].url] * 2


async def test_a_peer_whose_card_has_fallen_is_asked_before_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        far = at(nodes[2], await nodes[1].wire.open())
        await nodes[1].cut_off()
        await nodes.drop_card("node1")
        asked = probes(nodes[2], monkeypatch)
        for _ in range(2):
            assert await said_by(far.tool("where")) == "node1"
        assert asked == [nodes[1].url] * 2


async def test_a_peer_that_was_started_anew_is_relayed_to_while_redis_is_away(
    tmp_path: Path, clock: LeapingClock
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        await nodes[2].cut_off()
        await nodes[1].die()
        await nodes[1].ended.wait()
        again = Node("node1", nodes[3].proxy, demo, {}, {"restore": True})
        await nodes.start(again, int(nodes[1].url.rpartition(":")[2]))
        client = await again.wire.open()
        await nodes.leap(clock, CARD_SECONDS + 1)
        exchange = at(nodes[2], client).tool("where")
        assert await said_by(exchange) == "node1"
        assert exchange.headers["trio-mcp-relay"] == "node2 to node1"


async def test_nobody_is_taken_for_dead_because_redis_is_away(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        await stand(nodes, clock)
        await nodes[2].cut_off()
        await nodes.leap(clock, 3600)
        await nodes[2].beat()
        assert nodes[2].membership.boot("node1") == nodes[1].boot
        assert nodes[2].trust.stood_for == 0
        assert names(nodes[2]) == ["node1"]


def probes(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a node asks for a proof."""
    asked: list[str] = []
    probe = node.cluster._client.probe

    async def noted(url: str) -> str | Refused | Unreachable:
        asked.append(url)
        return await probe(url)

    monkeypatch.setattr(node.cluster._client, "probe", noted)
    return asked


async def test_a_beat_that_came_too_late_is_no_sign_of_life_before_records_are_checked(
    tmp_path: Path, clock: LeapingClock
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes.leap(clock, 11)
        assert nodes[1].cluster.overslept
        await trio.testing.wait_all_tasks_blocked()
        await nodes[1].cluster.catch_up()
        assert not nodes[1].cluster.overslept
