"""A full node beside an empty one."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.cluster.nodes import in_process_cluster
from tests.cluster.test_router import said_by
from tests.rig.waiting import PATIENCE
from tests.transports.http.harness import LEGACY
from tests.transports.http.test_authentication import operations

OVER_BOTH_STORES = True


async def test_a_full_node_has_a_peer_with_room_open_the_session(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"max_sessions": 1}) as nodes:
        mine = await nodes[1].wire.open()
        assert await said_by(mine.tool("where")) == "node1"
        await nodes.meet()
        assert ((await nodes.card("node1"))["room"], (await nodes.card("node2"))["room"]) == (0, 1)
        client = await nodes[1].wire.open()
        assert client.id.startswith("node2.")
        assert await said_by(client.tool("where")) == "node2"
        for node in nodes.nodes:
            assert operations(node.app.service.metrics.render()[0]) == {("", LEGACY): 1}


async def test_when_all_are_full_the_client_hears_503_once_and_nobody_asks_in_a_circle(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 3, app={"max_sessions": 1}) as nodes:
        for node in nodes.nodes:
            assert await said_by((await node.wire.open()).tool("where")) == node.name
        # Their cards say that there was room a moment ago.
        before = [len(node.heard) for node in nodes.nodes]
        exchange = nodes[1].wire.initialize()
        with trio.fail_after(PATIENCE):
            assert await exchange.head() == 503
        assert "retry-after" in exchange.headers
        assert len(nodes[1].heard) == before[0]
        assert sum(len(node.heard) for node in nodes.nodes) - sum(before) <= 1
