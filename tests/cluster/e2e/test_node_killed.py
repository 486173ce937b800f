"""A node is killed under load: what its clients see, with restore and without."""

from __future__ import annotations

import time

import pytest
import trio

from tests.cluster.tcp_proxy import tcp_proxy
from tests.rig.background_clients import background_clients, called
from tests.rig.cluster import Cluster, cluster
from tests.rig.load import Call, Load, load
from tests.rig.nodes import Node
from tests.rig.records import all_on_record
from tests.rig.waiting import until

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

CLIENTS = 50
CALLS = 11
"""Of each official client, at least."""


def _victims(traffic: Load) -> list[int]:
    """The clients whose sessions the first node opened."""
    return [number for number, client in enumerate(traffic.clients) if client.node == "node1"]


async def _answered_again(traffic: Load, victims: list[int], since: float) -> None:
    async def asked() -> bool:
        return {call.client for call in traffic.since(since) if not call.error} >= set(victims)

    await until(asked, f"each client of the dead node is answered; {traffic.summary()}")


async def _noticed(whole: Cluster, node: Node) -> float:
    """When the balancer has seen that the node is dead: nothing is sent there any more."""

    async def asked() -> bool:
        services = (await whole.traefik.services()).values()
        return all(service.get("serverStatus", {}).get(node.url) != "UP" for service in services)

    await until(asked, f"Traefik has {node.name} down")
    return trio.current_time()


def _explained(call: Call, killed: float, died: float, noticed: float) -> bool:
    """It was under way when the node died; or the balancer had not looked yet: the dead node is where the cookie leads."""
    by_balancer = call.cookies and call.status == 502 and call.started <= noticed
    return by_balancer or (call.started <= died and call.ended >= killed)


async def test_with_restore_a_killed_nodes_sessions_go_on_elsewhere_and_no_call_runs_twice() -> None:
    async with cluster(restore=True) as standing:
        async with (
            background_clients(standing.url) as background,
            load(standing.url, clients=CLIENTS, pause=0.4) as traffic,
        ):
            await traffic.settled()
            await all_on_record(standing)
            victims = _victims(traffic)
            assert len(victims) >= 10
            killed, killed_at = trio.current_time(), time.time()
            await standing.node("node1").kill()
            died = trio.current_time()
            noticed = await _noticed(standing, standing.node("node1"))
            noticed_at = time.time()
            await _answered_again(traffic, victims, noticed)
            await traffic.settled()
            await called(background, CALLS)
        unexplained = [call for call in traffic.failed if not _explained(call, killed, died, noticed)]
        assert unexplained == [], traffic.summary()
        assert traffic.reopened == []
        later = [call for call in traffic.since(noticed) if call.client in victims]
        assert {call.node for call in later if not call.error} == {"node2", "node3"}
        ran = standing.runs()
        assert {name for name, count in ran.items() if count > 1} == set()
        assert {call.name for call in traffic.calls if not call.error} <= ran.keys()
        restored = await standing.metric("trio_mcp_restores_total", outcome="restored")
        assert restored >= len(victims)
    for client in background:
        assert client.connects == 1, client
        assert client.calls >= CALLS, client
        assert all(failure.at >= killed_at for failure in client.failures), client
        # A call that was under way when the balancer noticed may fail after it.
        assert len([failure for failure in client.failures if failure.at > noticed_at]) <= 1, client


async def test_without_restore_the_next_call_is_the_404_of_a_live_node_and_a_client_that_opens_anew_works() -> None:
    async with cluster(restore=False) as standing:
        async with load(standing.url, clients=CLIENTS, pause=0.4) as traffic:
            await traffic.settled()
            await all_on_record(standing)
            victims = _victims(traffic)
            assert len(victims) >= 10
            killed = trio.current_time()
            await standing.node("node1").kill()
            died = trio.current_time()
            noticed = await _noticed(standing, standing.node("node1"))
            await _answered_again(traffic, victims, noticed)
            await traffic.settled()
        lost = [call for call in traffic.failed if call.reason == "node_gone"]
        assert sorted(call.client for call in lost) == victims
        assert {call.status for call in lost} == {404}
        others = [call for call in traffic.failed if call not in lost]
        unexplained = [call for call in others if not _explained(call, killed, died, noticed)]
        assert unexplained == [], traffic.summary()
        assert sorted(opening.client for opening in traffic.reopened if not opening.error) == victims


async def test_a_client_that_an_http_error_would_end_goes_on_when_the_node_of_its_session_is_killed() -> None:
    """mcp 1.30 and 2.3, whose requests reach a node that lives: what a balancer says that has not noticed is none of ours.

    Each call has a connection of its own: with one that was kept to the dead node, a call that was under way would end the client.
    """
    background = [("python_1_30.py", "legacy")] * 3 + [("python_2_3.py", "legacy", "close")]
    async with cluster(restore=True, routing=()) as standing:
        node1, node2, _ = standing.nodes
        async with (
            tcp_proxy(node1.port) as way,
            background_clients(f"http://127.0.0.1:{way.port}/mcp", background) as seen,
        ):

            async def relayed() -> bool:
                return await node2.metric("trio_mcp_relays_total", outcome="relayed") > 20

            await all_on_record(standing)
            way.lead_to(node2.port)
            # Of the next two calls of each, the second is led to the second node.
            await called(seen, 2 + max(client.said.count("called\n") for client in seen))
            await until(relayed, "their calls go by the second node")
            killed = time.time()
            await node1.kill()

            async def restored() -> bool:
                return await node2.metric("trio_mcp_restores_total", outcome="restored") == len(background)

            await until(restored, "their sessions go on")

            async def at_work() -> bool:
                served = await node2.metric("mcp_server_operation_duration_seconds_count", mcp_method_name="tools/call")
                return served > 10 * len(background)

            await until(at_work, "each of them is answered there")
    for client in seen:
        assert client.connects == 1, client
        assert client.nodes["node2"] > 0, client
        assert len(client.failures) <= 1, client
        assert all(failure.at >= killed for failure in client.failures), client
        assert all("may or may not" in failure.error for failure in client.failures), client
