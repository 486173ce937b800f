"""One session, one life: a peer that cannot reach its owner for a moment claims nothing, and who lost it lets go at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cluster.nodes import InProcessCluster, Node, at, in_process_cluster
from tests.cluster.parts import KEYS
from tests.cluster.test_router import reason_of, said_by
from tests.rig.waiting import until
from tests.transports.http.harness import SessionClient

OVER_BOTH_STORES = True

BEAT = 6.0
"""As nodes have it: a node that beats is not gone."""


async def looks_out(node: Node) -> bool:
    return bool(node.cluster._router._detector._under_way)


async def has_let_go(node: Node, session_id: str) -> bool:
    return node.app.hub.local(session_id) is None


async def taken_over(nodes: InProcessCluster, client: SessionClient) -> None:
    """The second node claims a session of the first, which lives."""
    await nodes[1].refuse()
    assert await said_by(at(nodes[2], client).tool("where")) == "node2"


# A refusal is no death.


@pytest.mark.parametrize("restore", [True, False])
async def test_a_request_that_is_refused_waits_and_is_relayed_when_its_owner_listens_again(
    tmp_path: Path, restore: bool
) -> None:
    async with in_process_cluster(tmp_path, restore=restore, missed_beat=BEAT) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        await nodes[1].refuse()
        exchanges = [at(nodes[2], client).tool("where") for _ in range(3)]
        await until(partial(looks_out, nodes[2]), "the request waits")
        nursery.start_soon(nodes[1].listen_again)
        for exchange in exchanges:
            assert await said_by(exchange) == "node1"
        record = await nodes.record(client.id)
        assert (record["boot"], record["epoch"]) == (nodes[1].boot, 0)
        assert await nodes.tombstone(client.id) is None


async def test_a_delete_that_is_refused_reaches_the_session(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=BEAT) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        await nodes[1].refuse()
        exchange = at(nodes[2], client).delete()
        await until(partial(looks_out, nodes[2]), "the request waits")
        nursery.start_soon(nodes[1].listen_again)
        assert await exchange.nothing() == 204
        await until(partial(has_let_go, nodes[1], client.id), "the session has ended where it is")


@pytest.mark.parametrize("restore", [True, False])
async def test_an_owner_that_refuses_for_longer_and_beats_is_unreachable_and_keeps_its_session(
    tmp_path: Path, restore: bool
) -> None:
    async with in_process_cluster(tmp_path, restore=restore, missed_beat=1.0) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()

        async def beats() -> None:
            while True:
                await nodes[1].beat()
                await trio.sleep(0.1)

        await nodes[1].refuse()
        nursery.start_soon(beats)
        exchange = at(nodes[2], client).tool("where")
        assert await reason_of(exchange, 503) == "unreachable"
        await nodes[1].listen_again()
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert await nodes.tombstone(client.id) is None
        nursery.cancel_scope.cancel("seen enough")


async def test_requests_for_the_sessions_of_one_node_ask_for_it_once_for_all(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=1.0) as nodes:
        clients = [await nodes[1].wire.open() for _ in range(20)]
        await nodes[1].die()
        asked = 0
        probe = nodes[2].cluster._client.probe

        async def counted(url: str) -> object:
            nonlocal asked
            asked += 1
            return await probe(url)

        nodes[2].cluster._client.probe = counted  # type: ignore[method-assign, assignment]
        exchanges = [at(nodes[2], client).tool("where") for client in clients]
        assert {await said_by(exchange) for exchange in exchanges} == {"node2"}
        assert asked <= 10


async def test_a_request_that_is_cut_short_while_it_looks_out_leaves_that_to_the_next(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=1.0) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        detector = nodes[2].cluster._router._detector
        owner = nodes[2].cluster._peers.home(client.id)
        assert owner is not None
        nursery.start_soon(detector.wait, owner, await nodes[2].cluster._client.probe(owner.url), trio.current_time())
        await until(partial(looks_out, nodes[2]), "the first looks out")
        exchange = at(nodes[2], client).tool("where")
        nursery.cancel_scope.cancel("the first gives up")
        with trio.CancelScope(shield=True):
            assert await said_by(exchange) == "node2"


async def test_a_session_whose_record_is_missing_is_not_unknown_while_its_node_refuses_and_beats(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=BEAT) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        await nodes.redis.ask("DEL", KEYS.session(client.id))
        await nodes[1].refuse()
        exchange = at(nodes[2], client).tool("where")
        await until(partial(looks_out, nodes[2]), "the request waits")
        nursery.start_soon(nodes[1].listen_again)
        assert await said_by(exchange) == "node1"


async def test_a_node_started_anew_under_its_name_at_another_address_makes_the_old_address_nobodys(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=BEAT) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].cut_off()
        nodes[1].deaf = True
        await nodes.change_card("node1", boot="0123456789abcdef")
        await nodes[2].beat()
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"


# Whoever lost a session hears of it.


async def test_a_node_whose_session_was_claimed_closes_its_copy_at_once(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=0.0) as nodes:
        client = await nodes[1].wire.open()
        stream = client.listen()
        await stream.head()
        await taken_over(nodes, client)
        await until(partial(has_let_go, nodes[1], client.id), "the copy is closed")
        assert await stream.message() is None
        assert (await nodes.record(client.id))["boot"] == nodes[2].boot


@pytest.mark.parametrize("how", ["deleted", "buried"])
async def test_a_node_whose_session_was_ended_by_another_closes_its_copy_at_once(tmp_path: Path, how: str) -> None:
    async with in_process_cluster(tmp_path, restore=how == "deleted", missed_beat=0.0) as nodes:
        client = await nodes[1].wire.open()
        running = client.tool("work")
        await nodes[1].activity.working.wait()
        await nodes[1].refuse()
        far = at(nodes[2], client)
        if how == "deleted":
            assert await far.delete().nothing() == 204
        else:
            await nodes.change_record(client.id, restorable=False)
            assert await reason_of(far.tool("where")) == "node_gone"
        await until(partial(has_let_go, nodes[1], client.id), "the copy is closed")
        assert (await running.error())["code"] < 0


@pytest.mark.parametrize("through", [2, 1], ids=["relayed", "elsewhere"])
async def test_a_session_that_was_deleted_is_asked_of_redis_and_not_of_its_old_owner(
    tmp_path: Path, through: int
) -> None:
    """Its owner may be out of reach by then, and nobody could say whether a request that was on its way to it has run."""
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        far = at(nodes[2], client)
        assert await said_by(far.tool("where")) == "node1"
        owners = nodes[2].cluster._peers.owners
        assert owners.get(client.id) is not None
        deletion = at(nodes[through], client).delete()
        assert await deletion.nothing() == 204
        await deletion.raw.finished.wait()

        async def forgotten() -> bool:
            return owners.get(client.id) is None

        await until(forgotten, "the owner is forgotten")
        relayed = nodes[2].relayed
        assert await reason_of(far.tool("where")) == "deleted"
        assert nodes[2].relayed == relayed


async def test_a_delete_is_answered_when_the_tombstone_is_written(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        assert await client.delete().nothing() == 204
        assert (await nodes.tombstone(client.id))["reason"] == "deleted"


async def test_a_delete_is_answered_while_redis_is_away(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].cut_off()
        assert await client.delete().nothing() == 204


async def test_what_the_bus_did_not_bring_is_heard_of_with_the_next_beat(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=0.0) as nodes:
        client = await nodes[1].wire.open()
        nodes[1].cluster._bus._changed = lambda move: None
        await taken_over(nodes, client)
        assert nodes[1].app.hub.local(client.id) is not None
        await nodes[1].beat()
        await until(partial(has_let_go, nodes[1], client.id), "the copy is closed")


async def test_a_node_that_has_missed_more_than_the_stream_keeps_checks_all_its_records(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=0.0) as nodes:
        client = await nodes[1].wire.open()
        other = await nodes[2].wire.open()
        nodes[1].cluster._bus._changed = lambda move: None
        await nodes[2].refuse()
        assert await said_by(at(nodes[1], other).tool("where")) == "node1"
        await nodes[1].beat()
        async with nodes[1].beating:
            await taken_over(nodes, client)
            await nodes.redis.ask("DEL", KEYS.moves)
        await nodes[1].beat()
        await until(partial(has_let_go, nodes[1], client.id), "the copy is closed")


@pytest.mark.only_redis("a key of another type makes Redis refuse the announcement alone")
async def test_a_claim_stands_where_redis_lets_nodes_tell_nobody(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, missed_beat=0.0) as nodes:
        client = await nodes[1].wire.open()
        await nodes.redis.ask("SET", KEYS.moves, "not a stream")
        await taken_over(nodes, client)
        assert (await nodes.record(client.id))["boot"] == nodes[2].boot
