"""What becomes of a request whose session is on another node, decision by decision, over a real Redis and real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import Activity, InProcessCluster, Node, at, demo, hops_of, in_process_cluster, stranger
from tests.cluster.parts import KEYS
from tests.cluster.peers import black_hole, raw_peer, read_request
from tests.rig.waiting import until
from tests.transports.http.harness import Exchange, SessionClient
from trio_mcp import MCPServer
from trio_mcp.cluster.clock import now
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.routing import LOOKS
from trio_mcp.cluster.store.port import ClaimRecord, Operation, ReadRecord, StoreDown
from trio_mcp.dispatch.session import Session
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import NodeState

OVER_BOTH_STORES = True


async def said_by(exchange: Exchange) -> str:
    """The node that `where` or `work` ran on."""
    result = await exchange.result()
    await exchange.raw.finished.wait()
    return str(result["content"][0]["text"])


async def reason_of(exchange: Exchange, status: int = 404) -> str:
    """Why there is no such session."""
    assert await exchange.head() == status
    return str((await exchange.error())["data"]["reason"])


async def stand(nodes: InProcessCluster, clock: LeapingClock) -> None:
    """All cards have stood for sixteen seconds, as far as their nodes know."""
    for _ in range(2):
        await nodes.leap(clock, 8)
        await nodes.meet()


# The owner is there.


async def test_a_request_is_relayed_to_the_node_that_has_its_session(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        exchange = at(nodes[2], client).tool("where")
        assert await said_by(exchange) == "node1"
        assert exchange.headers["trio-mcp-relay"] == "node2 to node1"
        assert nodes[2].relayed == 1
        assert len(nodes[2].app.hub) == 0


async def test_streams_notifications_and_deletes_are_relayed_like_calls(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        far = at(nodes[2], client)
        stream = far.listen()
        await stream.head()
        nodes[1].server.notify_list_changed("tools")
        assert (await stream.message())["method"] == "notifications/tools/list_changed"
        assert await far.notify("notifications/cancelled", {"requestId": 77}) == 202
        assert await far.delete().nothing() == 204
        assert await stream.message() is None
        assert await reason_of(client.tool("where")) == "deleted"


async def test_the_owner_of_a_session_once_met_is_remembered_and_redis_not_asked_again(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        far = at(nodes[2], await nodes[1].wire.open())
        await said_by(far.tool("where"))
        assert nodes[2].asked != []
        nodes[2].asked.clear()
        assert await said_by(far.tool("where")) == "node1"
        assert nodes[2].asked == []
        assert nodes[2].relayed == 2


async def test_a_remembered_owner_that_drains_is_asked_only_for_what_is_still_its_own(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        clients = [await nodes[1].wire.open() for _ in range(2)]
        far = [at(nodes[2], client) for client in clients]
        for client in far:
            assert await said_by(client.tool("where")) == "node1"
        nodes[1].app.life.enter(NodeState.DRAINING)
        await nodes.meet()
        session = nodes[1].app.hub.local(clients[0].id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        nodes[1].heard.clear()
        assert await said_by(far[0].tool("where")) == "node2"
        assert nodes[1].heard == []
        assert await said_by(far[1].tool("where")) == "node1"


async def test_a_remembered_owner_that_has_the_session_no_longer_is_forgotten_and_the_record_asked(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        nodes[2].cluster._bus._changed = lambda change: None  # or it would forget the owner at once
        client = await nodes[1].wire.open()
        far = at(nodes[2], client)
        await said_by(far.tool("where"))
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        assert await said_by(at(nodes[3], client).tool("where")) == "node3"
        exchange = far.tool("where")
        assert await said_by(exchange) == "node3"
        assert exchange.headers["trio-mcp-relay"] == "node2 to node3"
        assert nodes[2].metric('trio_mcp_relays_total{outcome="misdirected"}') == 1


async def test_a_remembered_owner_that_died_is_forgotten_and_the_session_restored(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        far = at(nodes[2], await nodes[1].wire.open())
        await said_by(far.tool("where"))
        await nodes[1].die()
        assert await said_by(far.tool("where")) == "node2"


async def test_an_owner_that_says_404_is_not_remembered(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        for number in range(3):
            assert await reason_of(stranger(nodes[2], f"node1.{number}").tool("where")) == "unknown"
        assert not nodes[2].cluster._peers.owners._known


async def test_a_session_whose_record_is_still_owed_is_found_by_the_node_in_its_id(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        nodes[1].proxy.cut()
        client = await nodes[1].wire.open()
        assert await nodes.record(client.id) is None
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


# The owner is gone.


@pytest.mark.parametrize("restore", [True, False])
async def test_a_node_whose_port_refuses_is_gone(tmp_path: Path, restore: bool) -> None:
    async with in_process_cluster(tmp_path, restore=restore) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        exchange = at(nodes[2], client).tool("where")
        if restore:
            assert await said_by(exchange) == "node2"
            record = await nodes.record(client.id)
            assert (record["node"], record["boot"], record["epoch"]) == ("node2", nodes[2].boot, 1)
        else:
            assert await reason_of(exchange) == "node_gone"


@pytest.mark.parametrize("asked", [1, 2])
async def test_a_node_that_was_restarted_is_another_process(tmp_path: Path, asked: int) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        again = await reborn(nodes)
        node = again if asked == 1 else nodes[2]
        assert await said_by(at(node, client).tool("where")) == node.name
        assert (await nodes.record(client.id))["boot"] == node.boot


async def test_a_node_that_was_restarted_without_restore_says_that_the_node_is_gone(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        again = await reborn(nodes)
        assert await reason_of(at(again, client).tool("where")) == "node_gone"
        await again.flushed()
        assert await nodes.record(client.id) is None
        assert (await nodes.tombstone(client.id))["reason"] == "node_gone"


async def test_another_node_at_the_address_of_a_dead_one_says_so_and_the_session_is_restored(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await nodes.change_record(client.id, url=nodes[2].url)
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"


async def reborn(nodes: InProcessCluster) -> Node:
    """The first node dies, and another process has its name and port."""
    old = nodes[1]
    await old.die()
    new = Node(old.name, nodes[2].proxy, demo, {}, {"restore": nodes[2].cluster.options.restore})
    await nodes.start(new, int(old.url.rpartition(":")[2]))
    return new


async def test_a_deaf_node_is_gone_when_its_card_fell_while_ours_stood(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        nodes[1].deaf = True
        nodes[1].proxy.cut()
        await nodes.drop_card("node1")
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert nodes[1].heard == []


async def test_a_deaf_node_whose_card_stands_is_not_gone(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        await nodes[1].cut_off()
        with black_hole() as url:
            await nodes.change_record(client.id, url=url)
            exchange = at(nodes[2], client).tool("where")
            assert await reason_of(exchange, 503) == "unreachable"
        assert exchange.headers["retry-after"] == "1"
        assert (await nodes.record(client.id))["node"] == "node1"


async def test_while_everybodys_card_is_missing_nobody_is_gone(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        record = await nodes.redis.ask("GET", KEYS.session(client.id))
        nodes[1].deaf = True
        nodes[1].proxy.cut()
        await nodes.redis.ask("FLUSHALL")
        await nodes.redis.ask("SET", KEYS.session(client.id), record.decode())
        await nodes[2].beat()
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "unreachable"
        assert (await nodes.record(client.id))["node"] == "node1"


async def test_a_node_with_a_fallen_card_that_answers_its_probe_is_there(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        nodes[1].proxy.cut()
        await nodes.drop_card("node1")
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


async def test_a_request_that_went_out_and_found_no_answer_is_sent_to_nobody_else(
    tmp_path: Path, clock: LeapingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.1)
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        nodes[1].deaf = True
        # The card falls between the sending and the silence.
        exchange = at(nodes[2], client).tool("where")
        await until(lambda: heard(nodes[1]), "the request has come")
        nodes[1].proxy.cut()
        await nodes.drop_card("node1")
        await nodes.leap(clock, 5)
        assert "may or may not" in (await exchange.error())["message"]
        assert nodes[2].activity.ran == []
        assert (await nodes.record(client.id))["node"] == "node1"
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"


async def heard(node: Node) -> int:
    return len(node.heard)


# What is restored, and what is not.


async def test_a_released_session_is_taken_up_by_whoever_is_asked(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await said_by(client.tool("where")) == "node2"
        assert nodes[1].relayed == 1


async def test_a_session_that_could_not_be_released_stays_where_it_is(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        nodes.redis.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes[1].cluster.release, session)
            await until(lambda: is_leaving(session), "the session is about to leave")
            exchange = client.tool("where")
            assert await said_by(exchange) == "node1"
        nodes.redis.resume()
        await nodes[1].beat()
        record = await nodes.record(client.id)
        assert (record["boot"], record["released"]) == (nodes[1].boot, False)


async def is_leaving(session: LiveSession) -> bool:
    return session.release_pending is not None


async def test_what_was_not_opened_to_be_restored_is_not_and_the_tombstone_says_why(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await nodes.change_record(client.id, restorable=False)
        assert await reason_of(at(nodes[2], client).tool("where")) == "node_gone"
        await nodes[2].flushed()
        assert await nodes.record(client.id) is None
        assert (await nodes.tombstone(client.id))["reason"] == "node_gone"


async def test_a_restored_session_is_what_it_was(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open(capabilities={"roots": {}})
        await client.start("resources/subscribe", {"uri": "demo://oslo"}).result()
        await client.start("logging/setLevel", {"level": "error"}).result()
        await nodes[1].flushed()
        before = await nodes.record(client.id)
        await nodes[1].die()
        far = at(nodes[2], client)
        await said_by(far.tool("where"))
        session = nodes[2].app.hub.local(client.id)
        assert session is not None
        assert session.restored
        assert session.initialized
        assert session.log_level == "error"
        assert session.client_info == {"name": "test", "version": "1"}
        assert session.client.capabilities == {"roots": {}}
        assert session.snapshot().subscriptions == ("demo://oslo",)
        await nodes[2].flushed()
        after = await nodes.record(client.id)
        moved = {"node": "node2", "boot": nodes[2].boot, "url": nodes[2].url, "epoch": 1}
        assert after == {**before, **moved}


async def test_hooks_of_a_restored_session_run_before_its_first_request(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def build(name: str, activity: Activity) -> MCPServer:
        mcp = demo(name, activity)

        @mcp.on_restore
        async def slowly(session: Session) -> None:
            await trio.testing.wait_all_tasks_blocked()
            seen.append([*activity.ran, *activity.news])

        return mcp

    async with in_process_cluster(tmp_path, build=build, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await said_by(at(nodes[2], client).tool("where"))
        assert seen == [["on_restore"]]
        assert nodes[2].activity.news == ["on_restore", "restored session"]
        assert nodes[1].activity.news == ["session"]


async def test_a_hook_that_fails_ends_the_session_for_good(tmp_path: Path) -> None:
    def build(name: str, activity: Activity) -> MCPServer:
        mcp = demo(name, activity)

        @mcp.on_restore
        async def fail(session: Session) -> None:
            raise ValueError("no such thing in the database")

        return mcp

    async with in_process_cluster(tmp_path, build=build, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        assert await reason_of(at(nodes[2], client).tool("where")) == "crashed"
        await nodes[2].flushed()
        assert await nodes.record(client.id) is None
        assert (await nodes.tombstone(client.id))["reason"] == "crashed"
        assert await reason_of(at(nodes[2], client).tool("where")) == "crashed"
        assert len(nodes[2].app.hub) == 0


async def test_a_hook_that_hangs_ends_the_session_and_not_the_patience_of_all(
    tmp_path: Path, clock: LeapingClock
) -> None:
    hangs = trio.Event()

    def build(name: str, activity: Activity) -> MCPServer:
        mcp = demo(name, activity)

        @mcp.on_restore
        async def hang(session: Session) -> None:
            hangs.set()
            await trio.sleep_forever()

        return mcp

    async with in_process_cluster(tmp_path, build=build, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        exchanges = [at(nodes[2], client).tool("where") for _ in range(2)]
        await hangs.wait()
        await nodes.leap(clock, 30)
        for exchange in exchanges:
            assert await reason_of(exchange) == "crashed"


async def test_requests_that_come_at_once_share_one_restore(tmp_path: Path) -> None:
    def build(name: str, activity: Activity) -> MCPServer:
        mcp = demo(name, activity)

        @mcp.on_restore
        async def hold(session: Session) -> None:
            await activity.go.wait()

        return mcp

    async with in_process_cluster(tmp_path, build=build, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        exchanges = [at(nodes[2], client).tool("where") for _ in range(5)]
        await until(lambda: has_news(nodes[2]), "the session is being restored")
        await trio.testing.wait_all_tasks_blocked(0.05)
        nodes[2].activity.go.set()
        assert [await said_by(each) for each in exchanges] == ["node2"] * 5
        assert nodes[2].activity.news == ["on_restore", "restored session"]
        assert nodes[2].metric('trio_mcp_restores_total{outcome="restored"}') == 1


async def has_news(node: Node) -> bool:
    return bool(node.activity.news)


async def test_a_request_that_learns_late_that_its_session_is_here_by_now_restores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        directory, asked, restored = nodes[2].cluster.directory, trio.Event(), trio.Event()
        look_up = directory.look_up

        async def late(session_id: str, *, patiently: bool) -> Any:
            if not asked.is_set():
                asked.set()
                await restored.wait()
            return await look_up(session_id, patiently=patiently)

        monkeypatch.setattr(directory, "look_up", late)
        first = at(nodes[2], client).tool("where")
        await asked.wait()
        await said_by(at(nodes[2], client).tool("where"))
        restored.set()
        assert await said_by(first) == "node2"
        assert nodes[2].activity.news == ["on_restore", "restored session"]


async def test_of_two_nodes_that_want_a_session_the_loser_relays_to_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        directory = nodes[3].cluster.directory
        look_up, stale = directory.look_up, [await directory.look_up(client.id)]

        async def stale_at_first(session_id: str, *, patiently: bool) -> Any:
            return stale.pop() if stale else await look_up(session_id, patiently=patiently)

        monkeypatch.setattr(directory, "look_up", stale_at_first)
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await said_by(at(nodes[3], client).tool("where")) == "node2"
        assert nodes[3].metric('trio_mcp_restores_total{outcome="lost"}') == 1
        assert nodes[3].relayed == 1


async def test_two_nodes_asked_at_once_restore_a_session_once(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        exchanges = [at(nodes[number], client).tool("where") for number in (2, 3, 2, 3)]
        answers = {await said_by(each) for each in exchanges}
        assert len(answers) == 1
        assert len(nodes[2].app.hub) + len(nodes[3].app.hub) == 1
        assert (await nodes.record(client.id))["epoch"] == 1


async def test_a_release_that_was_taken_back_is_not_claimed_by_who_saw_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        # Redis hears of it, and its reply is lost: the session stays.
        assert await nodes[1].cluster.directory.release(session.snapshot())
        directory = nodes[2].cluster.directory
        look_up, stale = directory.look_up, [await directory.look_up(client.id)]
        await nodes[1].cluster._reconciler.compare([session.snapshot()])

        async def stale_at_first(session_id: str, *, patiently: bool) -> Any:
            return stale.pop() if stale else await look_up(session_id, patiently=patiently)

        monkeypatch.setattr(directory, "look_up", stale_at_first)
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert nodes[2].metric('trio_mcp_restores_total{outcome="lost"}') == 1
        assert (await nodes.record(client.id))["epoch"] == 0


@pytest.mark.parametrize("asked", [2, 3])
async def test_a_claim_whose_reply_was_lost_is_made_good_by_the_next_request(tmp_path: Path, asked: int) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await nodes.change_record(client.id, node="node2", boot=nodes[2].boot, url=nodes[2].url, epoch=1)
        assert await said_by(at(nodes[asked], client).tool("where")) == "node2"
        session = nodes[2].app.hub.local(client.id)
        assert session is not None
        assert session.streams.epoch == 1
        assert (await nodes.record(client.id))["epoch"] == 1


async def test_a_full_node_claims_nothing_and_has_another_do_so(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True, app={"max_sessions": 1}) as nodes:
        client = await nodes[1].wire.open()
        assert await said_by((await nodes[2].wire.open()).tool("where")) == "node2"
        await nodes[1].die()
        assert await said_by(at(nodes[2], client).tool("where")) == "node3"
        assert (await nodes.record(client.id))["node"] == "node3"
        assert nodes[2].metric('trio_mcp_restores_total{outcome="restored"}') == 0


async def test_where_all_are_full_a_session_is_not_claimed_before_there_is_room(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True, app={"max_sessions": 1}) as nodes:
        client = await nodes[1].wire.open()
        others = [await nodes[number].wire.open() for number in (2, 3)]
        assert [await said_by(each.tool("where")) for each in others] == ["node2", "node3"]
        await nodes[1].die()
        exchange = at(nodes[2], client).tool("where")
        assert await exchange.head() == 503
        assert "retry-after" in exchange.headers
        await exchange.error()
        assert (await nodes.record(client.id))["epoch"] == 0
        assert await others[1].delete().nothing() == 204
        await nodes[3].beat()
        assert await said_by(at(nodes[2], client).tool("where")) == "node3"


async def test_a_peer_that_has_filled_up_since_its_card_was_read_sends_the_request_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, 4, restore=True, app={"max_sessions": 1}) as nodes:
        client = await nodes[1].wire.open()
        await nodes.meet()
        for full in (2, 3):
            assert await said_by((await nodes[full].wire.open()).tool("where")) == f"node{full}"
        await nodes[1].die()
        membership = nodes[2].membership
        assert {peer.node for peer in membership.with_room()} >= {"node3", "node4"}, "node3 had room a moment ago"
        monkeypatch.setattr(membership, "with_room", lambda: sorted(membership.ready(""), key=lambda peer: peer.node))
        assert await said_by(at(nodes[2], client).tool("where")) == "node4"
        assert nodes[3].heard, "it was asked first"


async def test_a_full_node_looks_for_a_peer_that_its_cards_do_not_know_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.heartbeat.LOOK_SECONDS", 0.0)
    async with in_process_cluster(tmp_path, 3, restore=True, app={"max_sessions": 1}) as nodes:
        client = await nodes[1].wire.open()
        assert await said_by((await nodes[2].wire.open()).tool("where")) == "node2"
        await nodes[1].die()
        nodes[2].membership.read({}, now())
        assert nodes[2].membership.with_room() == []
        assert await said_by(at(nodes[2], client).tool("where")) == "node3"
        nodes[2].membership.read({}, now())
        opening = nodes[2].wire.initialize()
        assert await opening.head() == 503, "node3 is full now"
        await opening.error()
        assert nodes[2].membership.ready("") != [], "its cards were read for that"


async def test_a_full_node_takes_a_session_up_in_place_of_one_that_was_never_used(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"max_sessions": 1}) as nodes:
        client, unused = await nodes[1].wire.open(), await nodes[2].wire.open()
        await nodes[1].die()
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await reason_of(unused.tool("where")) == "unused"


async def test_a_node_that_fills_up_while_it_claims_has_kept_the_sessions_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True, app={"max_sessions": 1}) as nodes:
        client, other = await nodes[1].wire.open(), await nodes[3].wire.open()
        await nodes[1].die()
        await nodes[3].die()
        store = nodes[2].cluster.directory._store
        run, claims, go = store.run, trio.Event(), trio.Event()

        async def late(operations: list[Operation]) -> Any:
            if isinstance(operations[0], ClaimRecord) and operations[0].session_id == client.id:
                claims.set()
                await go.wait()
            return await run(operations)

        monkeypatch.setattr(store, "run", late)
        exchange = at(nodes[2], client).tool("where")
        await claims.wait()
        late_comer = at(nodes[2], other).tool("where")
        assert await late_comer.head() == 503
        assert (await nodes.record(other.id))["epoch"] == 0
        go.set()
        assert await said_by(exchange) == "node2"


async def test_a_claim_that_failed_gives_its_place_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"max_sessions": 1}) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        store = nodes[2].cluster.directory._store
        run = store.run

        async def fail(operations: list[Operation]) -> Any:
            if isinstance(operations[0], ClaimRecord) and operations[0].session_id == client.id:
                raise StoreDown("no answer")
            return await run(operations)

        with monkeypatch.context() as broken:
            broken.setattr(store, "run", fail)
            assert await reason_of(at(nodes[2], client).tool("where"), 503) == "directory_unavailable"
        assert len(nodes[2].app.hub) == 0
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"


# Nobody has it.


@pytest.mark.parametrize("session_id", ["node1.neverwas", "node9.neverwas", "node2.neverwas", "nonsense"])
async def test_an_id_that_never_was_is_unknown(tmp_path: Path, session_id: str) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        assert await reason_of(stranger(nodes[2], session_id).tool("where")) == "unknown"
        assert len(nodes[1].heard) == (session_id.startswith("node1."))


async def test_every_node_knows_why_a_session_ended(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        assert await client.delete().nothing() == 204
        await until(lambda: gone(nodes[1], client), "the session has ended")
        await nodes[1].flushed()
        assert await reason_of(at(nodes[2], client).tool("where")) == "deleted"
        assert nodes[1].heard == []


async def gone(node: Node, client: SessionClient) -> bool:
    return node.app.hub.local(client.id) is None


async def test_a_client_may_delete_the_session_of_a_dead_node(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        assert await at(nodes[2], client).delete().nothing() == 204
        assert await nodes.record(client.id) is None
        assert (await nodes.tombstone(client.id))["reason"] == "deleted"
        assert await reason_of(at(nodes[2], client).tool("where")) == "deleted"


async def test_a_delete_reaches_the_node_that_took_the_session_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        directory = nodes[2].cluster.directory
        remove = directory.remove

        async def late(session_id: str, record: Record) -> bool:
            assert await said_by(at(nodes[3], client).tool("where")) == "node3"
            return await remove(session_id, record)

        monkeypatch.setattr(directory, "remove", late)
        exchange = at(nodes[2], client).delete()
        assert await exchange.nothing() == 204
        assert exchange.headers["trio-mcp-relay"] == "node2 to node3"
        await until(lambda: gone(nodes[3], client), "the session has ended")
        await nodes[3].flushed()
        assert await nodes.record(client.id) is None
        stone = await nodes.tombstone(client.id)
        assert (stone["reason"], stone["boot"], stone["epoch"]) == ("deleted", nodes[3].boot, 1)


# Redis is away.


async def test_without_redis_a_peer_that_was_seen_is_asked(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        await nodes.redis.stop()
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


async def test_without_redis_a_peer_that_is_gone_is_no_404(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes.redis.stop()
        await nodes[1].die()
        exchange = at(nodes[2], client).tool("where")
        assert await reason_of(exchange, 503) == "directory_unavailable"
        assert exchange.headers["retry-after"] == "1"


async def test_without_redis_a_session_of_nobody_known_is_no_404(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes.redis.stop()
        assert await reason_of(stranger(nodes[2], "node9.abc").tool("where"), 503) == "directory_unavailable"
        assert await reason_of(stranger(nodes[2], "node2.abc").tool("where"), 503) == "directory_unavailable"


async def test_without_redis_a_node_still_knows_what_ended_here(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes.redis.stop()
        client = await nodes[1].wire.open()
        assert await client.delete().nothing() == 204
        assert await reason_of(client.tool("where")) == "deleted"


async def test_a_peer_nobody_has_seen_is_looked_for_where_all_peers_are(tmp_path: Path) -> None:
    build = demo
    async with in_process_cluster(tmp_path, 1, build=build) as nodes:
        port = int(nodes[1].url.rpartition(":")[2])
        other = Node("node2", nodes[1].proxy, build, {}, {"peer_url": f"http://{{node}}:{port}"})
        # This one's name is an address as well.
        nodes[1].app.hub.options = type(nodes[1].app.hub.options)(node_id="localhost")
        await nodes[1].cluster.join(f"http://localhost:{port}")
        nodes[1].proxy.cut()
        await nodes.start(other)
        client = await nodes[1].wire.open()
        assert client.id.startswith("localhost.")
        assert await said_by(at(other, client).tool("where")) == "node1"


async def test_a_node_without_redis_is_told_by_a_peer_with_it_where_the_session_is(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        await said_by(at(nodes[3], client).tool("where"))
        nodes[2].proxy.cut()
        exchange = at(nodes[2], client).tool("where")
        assert await said_by(exchange) == "node3"
        assert exchange.headers["trio-mcp-relay"] == "node2 to node3"


# Redis is slow.


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on Redis never answers as quickly as nodes would have it."""
    return lambda: monkeypatch.setattr("trio_mcp.cluster.directory.READ_SECONDS", 0)


def asked_for(node: Node, client: SessionClient) -> int:
    """How often it has asked Redis for the record."""
    return node.asked.count(ReadRecord(client.id))


async def test_a_peer_that_is_known_is_asked_without_waiting_for_a_slow_redis(
    tmp_path: Path, slow: Callable[[], None]
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        slow()
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert asked_for(nodes[2], client) == 1


async def test_what_only_a_slow_redis_knows_is_waited_for(tmp_path: Path, slow: Callable[[], None]) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        nodes[1].stop_asked()
        slow()
        assert await nodes[1].cluster.release(session)
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        await nodes[1].die()
        assert await said_by(at(nodes[3], client).tool("where")) == "node2"
        assert await reason_of(stranger(nodes[3], "node1.neverwas").tool("where")) == "unknown"


async def test_a_node_that_stops_hands_on_to_a_peer_that_waits_for_a_slow_redis(
    tmp_path: Path, slow: Callable[[], None]
) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        nodes[2].stop_asked()
        slow()
        assert await said_by(at(nodes[2], client).tool("where")) == "node3"


async def test_a_redis_that_is_known_to_be_away_is_not_waited_for_twice(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        await nodes.redis.stop()
        await nodes[1].die()
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "directory_unavailable"
        assert asked_for(nodes[2], client) == 1


async def test_a_frozen_redis_is_waited_for_no_longer_than_it_takes_to_know_it_away(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, in_haste=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        nodes.redis.pause()
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "directory_unavailable"
        assert nodes[2].cluster._store.down
        nodes.redis.resume()


# Between nodes.


async def test_a_node_asked_by_a_peer_for_what_it_does_not_have_says_who_does(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3) as nodes:
        client = await nodes[1].wire.open()
        hop = hops_of("node3").sign("POST", b"/mcp", client.id).decode()
        exchange = at(nodes[2], client).start("ping", headers={"trio-mcp-hop": hop})
        assert await exchange.head() == 421
        assert exchange.headers["trio-mcp-misdirected"] == f"node2.{nodes[2].boot}"
        owner = {"node": "node1", "boot": nodes[1].boot, "epoch": 0, "url": nodes[1].url}
        assert await exchange.raw.json() == {"owner": owner}
        assert nodes[1].heard == []
        assert nodes[2].metric('trio_mcp_misroutes_total{outcome="421",reason="elsewhere"}') == 1


async def test_a_session_that_is_never_where_its_record_says_is_moving(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        marker = f"Trio-Mcp-Misdirected: node1.{nodes[1].boot}"

        async def handle(stream: trio.SocketStream) -> None:
            while await read_request(stream):
                await stream.send_all(f"HTTP/1.1 421 X\r\n{marker}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

        async with raw_peer(handle) as url:
            await plant(nodes, client, url)
            assert await reason_of(at(nodes[2], client).tool("where"), 503) == "moving"


async def plant(nodes: InProcessCluster, client: SessionClient, url: str) -> None:
    """Let the record and the card of the first node say another address."""
    async with nodes[1].beating:  # with its heartbeat it puts right what Redis says
        nodes[1].cluster._peers.me.url = url
        await nodes.change_record(client.id, url=url)
    await nodes.meet()


async def breaks_off(stream: trio.SocketStream) -> None:
    await read_request(stream)


async def test_an_owner_that_dies_with_a_request_is_told_of_in_band(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes, raw_peer(breaks_off) as url:
        client = await nodes[1].wire.open()
        await plant(nodes, client, url)
        exchange = at(nodes[2], client).tool("where")
        assert await exchange.head() == 200
        assert "may or may not" in (await exchange.error())["message"]
        assert nodes[2].activity.ran == []


async def test_an_owner_that_dies_with_a_notification_is_a_502(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes, raw_peer(breaks_off) as url:
        client = await nodes[1].wire.open()
        await plant(nodes, client, url)
        exchange = at(nodes[2], client).post({"jsonrpc": "2.0", "method": "notifications/x"})
        assert await exchange.head() == 502


async def test_an_owner_that_breaks_off_what_can_be_asked_again_is_asked_again_for_a_while(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        asked.append(await read_request(stream))

    async with in_process_cluster(tmp_path, restore=True) as nodes, raw_peer(handle) as url:
        client = await nodes[1].wire.open()
        await plant(nodes, client, url)
        far = at(nodes[2], client)
        for begin in (far.listen, far.delete):
            asked.clear()
            assert await reason_of(begin(), 503) == "moving"
            assert len([each for each in asked if b" /mcp " in each]) == LOOKS


# A node that stops.


async def test_a_node_that_stops_takes_up_nothing_and_the_peer_all_would_pick_does(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        nodes[2].stop_asked()
        (picked,) = {peer.node for peer in nodes[2].membership.ready(client.id) if peer.node != "node1"}
        assert picked == "node3"
        assert await said_by(at(nodes[2], client).tool("where")) == "node3"
        assert len(nodes[2].app.hub) == 0


async def test_a_node_that_stops_alone_says_so(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await nodes.drop_card("node1")
        nodes[2].stop_asked()
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "unreachable"
        assert (await nodes.record(client.id))["epoch"] == 0


async def test_what_belongs_to_no_session_is_a_peers_once_a_node_hands_over(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        nodes[2].stop_asked()
        assert await said_by(nodes[2].wire.modern().tool("where")) == "node2"
        nodes[2].hand_over()
        assert await said_by(nodes[2].wire.modern().tool("where")) == "node1"
        client = await nodes[2].wire.open()
        assert client.id.startswith("node1.")


async def test_a_modern_request_that_found_no_answer_is_sent_to_nobody_else(
    tmp_path: Path, clock: LeapingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.1)
    async with in_process_cluster(tmp_path, 3) as nodes:
        nodes[2].hand_over()
        first, _ = nodes[2].membership.ready("")
        deaf = next(node for node in nodes.nodes if node.name == first.node)
        deaf.deaf = True
        exchange = nodes[2].wire.modern().tool("where")
        await until(lambda: heard(deaf), "the request has come")
        await nodes.leap(clock, 5)
        assert "may or may not" in (await exchange.error())["message"]
        assert all(node.activity.ran == [] for node in nodes.nodes)
