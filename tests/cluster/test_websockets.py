"""The sessions of WebSockets in a cluster: on record for operators, unknown to requests on every node, never handed over."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cluster.nodes import in_process_cluster
from tests.cluster.parts import KEYS
from tests.rig.waiting import until
from tests.transports.http.harness import LEGACY
from tests.transports.websocket.harness import open_door
from trio_mcp.cluster.record import end_message
from trio_mcp.serving.drain import drain

OVER_BOTH_STORES = True

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.requirement("ws-36")
@pytest.mark.parametrize("restore", [True, False])
async def test_no_node_serves_its_session_to_a_request_and_operators_end_it(tmp_path: Path, restore: bool) -> None:
    async with in_process_cluster(tmp_path, 3, app={"websocket": True}, restore=restore) as nodes:
        async with open_door(nodes[1].app) as door:
            socket = await door.connect()
            await socket.open()
            (session,) = nodes[1].app.hub.sessions
            await nodes[1].flushed()
            record = await nodes.record(session.id)
            assert (record["transport"], record["restorable"], record["node"]) == ("websocket", False, "node1")
            await nodes.meet()
            for node in nodes.nodes:
                for headers in ({}, {"mcp-protocol-version": LEGACY}):
                    exchange = node.wire.post(PING, headers={"mcp-session-id": session.id, **headers})
                    assert await exchange.head() == 404
                    assert (await exchange.json())["error"]["data"]["reason"] == "unknown"
            assert not socket.finished.is_set()
            await nodes.redis.ask("PUBLISH", KEYS.bus, end_message(session.id).decode())
            await socket.finished.wait()
            assert socket.closed == (1008, "an operator ended the session")
            await nodes[1].flushed()
            assert await nodes.record(session.id) is None


async def test_when_its_node_is_killed_nobody_takes_it_over(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 2, app={"websocket": True}, restore=True) as nodes:
        async with open_door(nodes[1].app) as door:
            socket = await door.connect()
            await socket.open()
            (session,) = nodes[1].app.hub.sessions
            await nodes[1].flushed()
            await nodes[1].die()
            exchange = nodes[2].wire.post(PING, headers={"mcp-session-id": session.id})
            assert await exchange.head() == 404
            assert len(nodes[2].app.hub) == 0


@pytest.mark.requirement("ws-33")
async def test_a_node_that_stops_beside_a_ready_peer_ends_it_with_1001(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 2, app={"websocket": True}, restore=True) as nodes:
        async with open_door(nodes[1].app) as door, open_door(nodes[2].app) as other, trio.open_nursery() as nursery:
            socket, http = await door.connect(), await nodes[1].wire.open()
            await socket.open()
            (bound,) = [session for session in nodes[1].app.hub.sessions if session.bound]
            nursery.start_soon(partial(drain, nodes[1].app, 5.0, cluster=nodes[1].cluster))
            await socket.finished.wait()
            assert socket.closed == (1001, "the server is shutting down")
            assert (await door.knock("mcp")).status == 503

            async def handed_over() -> bool:
                return len(nodes[1].app.hub) == 0

            await until(handed_over, "the session over HTTP is released")
            await nodes[1].flushed()
            assert await nodes.record(bound.id) is None
            assert (await nodes.record(http.id))["released"]
            again = await other.connect()
            await again.open()
