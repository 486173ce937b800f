"""WebSockets through a real Traefik, over TLS: where they go, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import trio
from trio_websocket import ConnectionRejected

from tests.rig.cluster import Cluster, cluster
from tests.rig.http_connection import Broken
from tests.rig.nodes import Node
from tests.rig.waiting import PATIENCE, until
from tests.rig.websocket import WebSocketClient, websocket
from tools.clients import CLIENTS, ClientUnderTest, verdicts
from tools.node import environment
from tools.served import REPOSITORY

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

FLAGS = ("--websocket", "--drain-timeout", "6", "--drain-delay", "2")
EVERYTHING = REPOSITORY / "examples" / "everything.py"
OPEN = "trio_mcp_websockets_active"


@pytest.fixture
async def standing() -> AsyncIterator[Cluster]:
    async with cluster(server=EVERYTHING, flags=FLAGS) as found:
        yield found


async def node_of(standing: Cluster, before: dict[str, float]) -> Node:
    """The node that has one WebSocket more than before."""
    after = await counts(standing)
    (found,) = [node for node in standing.nodes if after[node.name] > before[node.name]]
    return found


async def counts(standing: Cluster) -> dict[str, float]:
    """The open WebSockets of each node; none where its ports are closed, which is before its process has ended."""
    found = {}
    for node in standing.nodes:
        try:
            found[node.name] = await node.metric(OPEN)
        except (OSError, Broken):
            found[node.name] = 0.0
    return found


async def opened(stack: AsyncExitStack, standing: Cluster, cookie: str = "") -> tuple[WebSocketClient, Node]:
    """A connection with a session, and the node that has it."""
    before = await counts(standing)
    client = await stack.enter_async_context(websocket(standing.url, cookie=cookie))
    assert (await client.initialize())["serverInfo"]
    return client, await node_of(standing, before)


async def elsewhere(standing: Cluster, not_on: Node, cookie: str) -> None:
    """A new connection with the cookie of a node that is gone is served by another."""

    async def asked() -> bool:
        try:
            async with AsyncExitStack() as stack:
                client, node = await opened(stack, standing, cookie)
                assert await client.tool("add", a=1, b=2) == "3"
        except ConnectionRejected:
            return False
        return node is not not_on

    await until(asked, "another node takes the connection")


@pytest.mark.requirement("ws-35")
async def test_a_cookie_leads_to_the_same_node_and_without_one_all_nodes_are_used(standing: Cluster) -> None:
    async with AsyncExitStack() as stack:
        first, node = await opened(stack, standing)
        assert first.cookie
        again = [(await opened(stack, standing, first.cookie))[1] for _ in range(5)]
        assert set(map(id, again)) == {id(node)}
        others = {(await opened(stack, standing))[1].name for _ in range(6)}
        assert others == {"node1", "node2", "node3"}
        assert await first.tool("add", a=1, b=2) == "3"


@pytest.mark.requirement("ws-35")
async def test_a_node_that_drains_ends_its_own_with_1001_and_answers_their_calls(standing: Cluster) -> None:
    answers: list[str] = []

    async def call(client: WebSocketClient) -> None:
        answers.append(await client.tool("slow", seconds=4))

    async with AsyncExitStack() as stack:
        busy, node = await opened(stack, standing)
        idle, _ = await opened(stack, standing, busy.cookie)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, busy)
                nursery.start_soon(node.terminate)
                assert await idle.ended() == 1001
                await elsewhere(standing, node, busy.cookie)
            assert answers == ["Slept for 4 s"]
            assert await busy.ended() == 1001


@pytest.mark.requirement("ws-35")
async def test_a_node_that_dies_and_a_traefik_that_restarts_end_connections_and_new_ones_work(
    standing: Cluster,
) -> None:
    async with AsyncExitStack() as stack:
        client, node = await opened(stack, standing)
        await node.kill()
        with trio.fail_after(PATIENCE):
            assert await client.ended() == 1006
        await elsewhere(standing, node, client.cookie)
        another, _ = await opened(stack, standing)
        await standing.traefik.stop()
        with trio.fail_after(PATIENCE):
            assert await another.ended() == 1006
        await standing.traefik.start()
        await elsewhere(standing, node, another.cookie)


@pytest.mark.requirement("ws-1", "ws-35")
@pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.mode == "websocket"], ids=lambda client: client.id
)
async def test_the_clients_people_use_get_through(client: ClientUnderTest) -> None:
    """One node, for they ask it how many calls were cancelled. Traefik's certificate is its own: the clients are told to trust any."""
    trusting = {**environment(), "NODE_TLS_REJECT_UNAUTHORIZED": "0", "TRUST_ANY_CERTIFICATE": "1"}
    async with cluster(1, server=EVERYTHING, flags=FLAGS) as standing:
        found = await trio.to_thread.run_sync(verdicts, client, standing.url, trusting)
    assert found == dict.fromkeys(client.steps, "ok")
