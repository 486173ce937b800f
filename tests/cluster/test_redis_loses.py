"""A Redis that has lost what it knew, all of it or the last of it: nobody is told to be gone, and all is written anew."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import InProcessCluster, Node, at, demo, in_process_cluster, stranger
from tests.cluster.parts import KEYS
from tests.cluster.test_one_life import looks_out
from tests.rig.waiting import until
from tests.transports.http.harness import Exchange, SessionClient
from trio_mcp.cluster.store.port import ReadRecord
from trio_mcp.cluster.store_trust import REFILL_SECONDS

OVER_BOTH_STORES = True


async def node_of(exchange: Exchange) -> str:
    """Where `where` ran."""
    return str((await exchange.result())["content"][0]["text"])


async def refusal(exchange: Exchange) -> tuple[int, str]:
    """Status and reason."""
    status = await exchange.head()
    return status, str((await exchange.error())["data"]["reason"])


async def moved(nodes: InProcessCluster) -> SessionClient:
    """A session of node1 that lives on node3 now."""
    client = await nodes[1].wire.open()
    session = nodes[1].app.hub.local(client.id)
    assert session is not None
    assert await nodes[1].cluster.release(session)
    assert await node_of(at(nodes[3], client).tool("where")) == "node3"
    return client


async def lose_all(nodes: InProcessCluster, *silent: Node) -> None:
    """Redis starts empty; some nodes do not reach it."""
    for node in silent:
        node.proxy.cut()
    await nodes.redis.stop()
    await nodes.redis.start(empty=True)


async def test_a_peer_that_an_emptied_redis_does_not_list_is_still_reached(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        await lose_all(nodes, nodes[1])
        await nodes[2].beat()
        await nodes[2].beat()
        assert nodes[2].membership.boot("node1") is None
        assert await node_of(at(nodes[2], client).tool("where")) == "node1"


async def test_while_redis_is_filled_anew_no_session_is_said_to_be_unknown(tmp_path: Path, clock: LeapingClock) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await moved(nodes)
        await lose_all(nodes, nodes[1], nodes[3])
        asked = at(nodes[2], client)
        # First it sees that its own card is missing, then it has put that up, and the others may yet follow.
        assert await refusal(asked.tool("where")) == (503, "directory_unavailable")
        await nodes[2].beat()
        assert await refusal(asked.tool("where")) == (503, "directory_unavailable")
        assert await refusal(stranger(nodes[2], "node9.abc").tool("where")) == (503, "directory_unavailable")
        await nodes.leap(clock, REFILL_SECONDS)
        assert await refusal(stranger(nodes[2], "node9.abc").tool("where")) == (404, "unknown")


async def test_a_node_that_starts_says_at_once_what_is_unknown(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 1) as nodes:
        assert await refusal(stranger(nodes[1], "node9.abc").tool("where")) == (404, "unknown")


async def test_without_redis_a_peer_says_where_it_met_a_session_that_moved(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await moved(nodes)
        assert await node_of(at(nodes[1], client).tool("where")) == "node3"
        nodes[1].proxy.cut()
        nodes[2].proxy.cut()
        exchange = at(nodes[2], client).tool("where")
        assert await node_of(exchange) == "node3"
        assert exchange.headers["trio-mcp-relay"] == "node2 to node3"


async def test_records_are_checked_when_the_connection_was_lost_also_when_our_card_still_stands(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 1, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].flushed()
        record = await nodes.record(client.id)
        await nodes.redis.ask("DEL", KEYS.session(client.id))
        await nodes.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")

        async def found() -> bool:
            return bool(await nodes.record(client.id) == record)

        await until(found, "the record is written anew")


async def test_a_session_of_a_killed_node_outlives_redis_when_it_was_asked_for_in_between(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True, missed_beat=2.0) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        exchange = at(nodes[2], client).tool("where")
        await until(partial(looks_out, nodes[2]), "the request waits")
        await lose_all(nodes)
        status = await exchange.head()
        await nodes[2].beat()
        assert (await nodes.record(client.id))["epoch"] == (0 if status == 503 else 1)

        async def answered() -> bool:
            return await at(nodes[3], client).tool("where").head() == 200

        await until(answered, "it goes on")


async def test_a_session_that_was_let_go_of_outlives_redis(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        await lose_all(nodes)
        await nodes[1].beat()
        assert await node_of(at(nodes[2], client).tool("where")) == "node2"


async def test_a_session_that_was_let_go_of_and_taken_up_is_not_put_back_when_redis_lost_it(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await moved(nodes)
        await nodes[1].beat()
        await lose_all(nodes, nodes[3])
        await nodes[1].beat()
        assert await nodes.record(client.id) is None


async def test_a_session_that_ended_is_not_put_back_by_a_node_that_was_asked_for_it(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        assert await node_of(at(nodes[2], client).tool("where")) == "node1"
        assert await client.delete().nothing() == 204

        async def ended() -> bool:
            return await nodes.record(client.id) is None

        await until(ended, "its record is gone")
        await nodes[2].beat()
        await lose_all(nodes)
        await nodes[2].beat()
        await nodes[1].beat()
        assert await nodes.record(client.id) is None


async def test_while_a_beat_is_under_way_that_finds_all_lost_no_session_is_said_to_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open()
        heartbeat = nodes[2].heartbeat
        exchange_cards, put_up, go_on = heartbeat._exchange, trio.Event(), trio.Event()

        async def held_up() -> Any:
            found = await exchange_cards()
            put_up.set()
            await go_on.wait()
            return found

        await lose_all(nodes, nodes[1])
        monkeypatch.setattr(heartbeat, "_exchange", held_up)
        nursery.start_soon(nodes[2].beat)
        await put_up.wait()
        await nodes[1].refuse()
        asked = at(nodes[2], client).tool("where")
        looked = nodes[2].asked
        await until(partial(_has_looked, looked, client.id), "it has looked for the record")
        go_on.set()
        assert await refusal(asked) == (503, "directory_unavailable")


async def _has_looked(asked: list[Any], session_id: str) -> bool:
    return ReadRecord(session_id) in asked


async def test_a_node_that_started_while_redis_was_away_gives_the_others_time_to_write(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await nodes.redis.stop()
        late = Node("node3", nodes[2].proxy, demo, {}, {})
        await nodes._nursery.start(late.run, 0)
        nodes.nodes.append(late)
        await nodes.redis.start(empty=True)
        assert await refusal(stranger(late, "node9.abc").tool("where")) == (503, "directory_unavailable")
        await late.beat()
        assert await refusal(stranger(late, "node9.abc").tool("where")) == (503, "directory_unavailable")
