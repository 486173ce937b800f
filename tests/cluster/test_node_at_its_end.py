"""A node that has to go, because its time is up or its name is another's: what becomes of the sessions it still has."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.cluster.nodes import Node, Town, at, demo, town
from tests.rig.waiting import until
from tests.transports.http.harness import Exchange

pytestmark = [pytest.mark.sockets, pytest.mark.processes]


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
    async with town(tmp_path, restore=True) as nodes:
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
        nodes[1].cluster.stop_claiming()
        session.close("shutdown")
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


async def test_the_earlier_of_two_processes_with_one_name_gives_up_what_the_later_took_over(tmp_path: Path) -> None:
    async with town(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        later = await _another_node1(nodes)
        assert await node_of(at(later, client).tool("where")) == "node1"
        await nodes[1].beat()

        async def gone() -> bool:
            return nodes[1].app.hub.local(client.id) is None

        await until(gone, "its copy is closed")
        record = await nodes.record(client.id)
        assert (record["boot"], record["epoch"]) == (later.boot, 1)


async def test_the_earlier_of_two_processes_with_one_name_hears_who_is_ready_to_take_its_sessions(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as nodes:
        async with nodes[2].beating:  # or it would say what is so
            await nodes.change_card("node2", state="starting")
            await nodes[1].beat()
        assert not nodes[1].cluster.has_ready_peer
        await _another_node1(nodes)
        await nodes[2].beat()
        await nodes[1].beat()
        assert nodes[1].cluster.impostor.is_set()
        assert nodes[1].cluster.has_ready_peer


async def _another_node1(nodes: Town) -> Node:
    later = Node("node1", nodes[2].cable, demo, {}, {"restore": True})
    later.cluster._me.started = nodes[1].cluster._me.started + 1
    await nodes.start(later)
    return later
