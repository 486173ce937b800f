"""A node that has to go, because its time is up or its name is another's: what becomes of the sessions it still has."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.cluster.nodes import InProcessCluster, Node, at, demo, in_process_cluster
from tests.cluster.parts import KEYS
from tests.rig.waiting import PATIENCE, until
from tests.transports.http.harness import Exchange
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.live_session import LiveSession

OVER_BOTH_STORES = True


async def node_of(exchange: Exchange) -> str:
    """Where `where` ran."""
    return str((await exchange.result())["content"][0]["text"])


async def refusal(exchange: Exchange) -> tuple[int, str]:
    """Status and reason."""
    status = await exchange.head()
    return status, str((await exchange.error())["data"]["reason"])


async def test_until_its_sessions_are_released_a_node_at_its_end_says_come_again_and_not_that_they_are_lost(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        cleaned_up = trio.Event()

        async def clean_up() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                    await cleaned_up.wait()

        session.start_soon(clean_up)
        nodes[1].stop_asked()
        session.close(CloseReason.SHUTDOWN)
        assert await refusal(client.tool("where")) == (503, "moving")
        assert await refusal(at(nodes[2], client).tool("where")) == (503, "moving")
        cleaned_up.set()

        async def forgotten() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(forgotten, "the session has left")
        # Redis does not say so yet, or does: never is it lost.
        assert await client.tool("where").head() in (200, 503)
        await nodes[1].flushed()
        assert await node_of(at(nodes[2], client).tool("where")) == "node2"


@pytest.mark.parametrize("through", ["itself", "a peer"])
async def test_a_request_that_comes_while_a_node_at_its_end_releases_the_session_is_answered_by_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.router.CLOSING_RELEASE_SECONDS", PATIENCE)
    async with in_process_cluster(tmp_path, 3, restore=True) as nodes:
        client = await nodes[1].wire.open()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        waits, cleaned_up = trio.Event(), trio.Event()
        found = nodes[1].cluster._router._released

        async def released(session: LiveSession) -> None:
            waits.set()
            await found(session)

        async def clean_up() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                    await cleaned_up.wait()

        monkeypatch.setattr(nodes[1].cluster._router, "_released", released)
        session.start_soon(clean_up)
        nodes[1].stop_asked()
        session.close(CloseReason.SHUTDOWN)
        exchange = (client if through == "itself" else at(nodes[2], client)).tool("where")
        await waits.wait()
        cleaned_up.set()
        assert await node_of(exchange) in ("node2", "node3")


async def test_who_has_the_name_of_an_earlier_process_that_lives_after_all_takes_over_and_that_one_gives_up(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        async with nodes[1].beating:
            await nodes.redis.ask("DEL", KEYS.node("node1"))
            later = await _another_node1(nodes)
            assert later.trust.has_node_id
            assert await node_of(at(later, client).tool("where")) == "node1"

        async def gone() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(gone, "its copy is closed")
        record = await nodes.record(client.id)
        assert (record["boot"], record["epoch"]) == (later.boot, 1)


async def test_the_later_of_two_processes_with_one_name_relays_to_the_earlier_and_hears_who_is_ready(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        async with nodes[1].beating:
            await nodes.redis.ask("DEL", KEYS.node("node1"))
            later = await _another_node1(nodes)
        await nodes[1].beat()
        await later.beat()
        assert later.cluster.doubled.is_set()
        assert not later.trust.has_node_id
        assert later.cluster.has_ready_peer
        assert await node_of(at(later, client).tool("where")) == "node1"
        assert (await nodes.record(client.id))["boot"] == nodes[1].boot


async def _another_node1(nodes: InProcessCluster) -> Node:
    """It finds the name free."""
    later = Node("node1", nodes[2].proxy, demo, {}, {"restore": True})
    later.cluster._peers.me.started = nodes[1].cluster._peers.me.started + 1
    await nodes._nursery.start(later.run, 0)
    nodes.nodes.append(later)
    return later
