"""What the client of a relayed request hears when its owner, or the node that relays it, comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import Activity, InProcessCluster, Node, at, demo, in_process_cluster
from tests.cluster.peers import raw_peer, read_request
from tests.cluster.test_router import plant, reason_of, said_by
from tests.rig.waiting import until
from tests.transports.http.harness import Exchange, SessionClient
from trio_mcp import Context, MCPServer
from trio_mcp.serving.drain import drain, end_remaining

OVER_BOTH_STORES = True

WITHOUT_IDS = ["2025-03-26", "2025-06-18"]
"""Their streams begin with no event id, and what ids come later their clients do not come back with."""


async def under_way(nodes: InProcessCluster, client: SessionClient) -> Exchange:
    """A call that runs on the first node, relayed by the second, its stream open."""
    exchange = at(nodes[2], client).tool("work")
    assert await exchange.head() == 200
    await nodes[1].activity.working.wait()
    return exchange


async def lost(exchange: Exchange) -> None:
    """Its answer says so."""
    (message,) = await exchange.messages()
    assert "may or may not" in message["error"]["message"]


# The owner dies.


@pytest.mark.parametrize("version", WITHOUT_IDS)
async def test_a_call_whose_stream_cannot_be_resumed_is_told_that_its_owner_died(tmp_path: Path, version: str) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        exchange = await under_way(nodes, await nodes[1].wire.open(version))
        await nodes[1].die()
        await lost(exchange)


async def test_a_call_whose_stream_can_be_resumed_is_told_when_it_is(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        exchange = await under_way(nodes, client)
        first = await exchange.event()
        assert first is not None
        await nodes[1].die()
        assert await exchange.messages() == []
        await lost(at(nodes[2], client).listen(first["id"]))


async def test_a_batch_is_answered_call_by_call_when_its_owner_dies_before_it_speaks(tmp_path: Path) -> None:
    async def breaks_off(stream: trio.SocketStream) -> None:
        await read_request(stream)

    async with in_process_cluster(tmp_path, restore=True) as nodes, raw_peer(breaks_off) as url:
        client = await nodes[1].wire.open("2025-03-26")
        await plant(nodes, client, url)
        calls: list[Any] = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (7, "x")]
        notification = {"jsonrpc": "2.0", "method": "notifications/x"}
        exchange = at(nodes[2], client).post([*calls, notification])
        assert await exchange.head() == 200
        assert [each["id"] for each in await exchange.json()] == [7, "x"]


async def test_a_get_whose_owner_breaks_off_as_it_lets_go_of_the_session_finds_its_next_node(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:

        async def lets_go(stream: trio.SocketStream) -> None:
            await read_request(stream)
            await nodes.change_record(client.id, released=True)

        async with raw_peer(lets_go) as url:
            client = await nodes[1].wire.open()
            await plant(nodes, client, url)
            stream = at(nodes[2], client).listen()
            assert await stream.head() == 200
            assert nodes[2].app.hub.local(client.id) is not None


async def test_a_call_that_reached_a_node_which_hangs_is_not_to_be_sent_again(
    tmp_path: Path, clock: LeapingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.1)
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        nodes[1].deaf = True
        call = at(nodes[2], client).tool("where")
        told = at(nodes[2], client).post({"jsonrpc": "2.0", "method": "notifications/x"})
        await until(lambda: heard(nodes[1], 2), "both have come")
        await nodes.leap(clock, 5)
        assert await call.head() == 200
        assert "may or may not" in (await call.error())["message"]
        assert await reason_of(told, 503) == "unreachable"


async def heard(node: Node, count: int) -> bool:
    return len(node.heard) >= count


# The node that relays stops.


@pytest.mark.parametrize("version", WITHOUT_IDS)
async def test_a_stream_that_cannot_be_resumed_is_relayed_to_its_end_by_a_node_that_drains(
    tmp_path: Path, version: str
) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes, trio.open_nursery() as nursery:
        client = await nodes[1].wire.open(version)
        exchange = await under_way(nodes, client)
        idle = at(nodes[2], client).listen()
        assert await idle.head() == 200
        nursery.start_soon(lambda: drain(nodes[2].app, 30.0, cluster=nodes[2].cluster))
        assert await idle.messages() == []
        nodes[1].activity.go.set()
        assert await said_by(exchange) == "node1"
        nursery.cancel_scope.cancel("shown")


def talking(name: str, activity: Activity) -> MCPServer:
    mcp = MCPServer("talks")

    @mcp.tool
    async def work(ctx: Context) -> str:
        await ctx.info("it begins")
        activity.working.set()
        await activity.go.wait()
        return name

    return mcp


@pytest.mark.parametrize("build", [demo, talking])
@pytest.mark.parametrize("version", WITHOUT_IDS)
async def test_at_the_end_of_the_drain_it_ends_with_an_answer(
    tmp_path: Path, version: str, build: Callable[[str, Activity], MCPServer]
) -> None:
    async with in_process_cluster(tmp_path, restore=True, build=build) as nodes:
        exchange = await under_way(nodes, await nodes[1].wire.open(version))
        assert nodes[2].cluster.relayed_stream_enders() == []
        await end_remaining(nodes[2].app, nodes[2].cluster)
        *said, last = await exchange.messages()
        assert [each["method"] for each in said] == (["notifications/message"] if build is talking else [])
        assert "may or may not" in last["error"]["message"]


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_where_its_owner_ends_together_with_the_node_that_relays_the_owner_answers(
    tmp_path: Path, version: str
) -> None:
    async with in_process_cluster(tmp_path, build=talking) as nodes:
        exchange = await under_way(nodes, await nodes[1].wire.open(version))
        # Its stream can be resumed by clients of 2025-11-25, but no node will be there.
        assert (await exchange.message())["method"] == "notifications/message"
        async with trio.open_nursery() as nursery:
            for node in nodes[2], nodes[1]:
                nursery.start_soon(partial(end_remaining, node.app, node.cluster, together=True))
        (last,) = await exchange.messages()
        assert last["error"]["message"] == "The server is shutting down"


async def test_where_its_owner_says_nothing_at_their_end_the_node_that_relays_does(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        exchange = await under_way(nodes, await nodes[1].wire.open("2025-06-18"))
        await end_remaining(nodes[2].app, nodes[2].cluster, together=True)
        await lost(exchange)


async def test_a_call_that_has_no_head_yet_is_answered_at_the_end_of_the_drain(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"json_response": True}) as nodes:
        exchange = at(nodes[2], await nodes[1].wire.open()).tool("work")
        await nodes[1].activity.working.wait()
        await end_remaining(nodes[2].app, nodes[2].cluster)
        assert await exchange.head() == 200
        assert "may or may not" in (await exchange.error())["message"]


async def test_a_listen_stream_that_is_relayed_ends_with_its_result(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        nodes[2].stop_asked()
        nodes[2].hand_over()
        stream = nodes[2].wire.modern().listen(id=5, toolsListChanged=True)
        assert (await stream.message())["method"] == "notifications/subscriptions/acknowledged"
        assert stream.headers["trio-mcp-relay"] == "node2 to node1"
        await end_remaining(nodes[2].app, nodes[2].cluster)
        (last,) = await stream.messages()
        assert (last["id"], last["result"]["resultType"]) == (5, "complete")


# A session whose calls overlap.


def napping(name: str, activity: Activity) -> MCPServer:
    mcp = demo(name, activity)

    @mcp.tool
    async def nap() -> str:
        await trio.sleep(0.1)
        return name

    return mcp


async def test_a_session_with_calls_that_overlap_leaves_and_no_call_of_it_fails(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, build=napping) as nodes:
        client = await nodes[1].wire.open()
        stopping, answered = trio.Event(), list[str]()

        async def call_on(node: Node) -> None:
            while not stopping.is_set():
                answered.append(await said_by(at(node, client).tool("nap")))

        async def several_were_answered() -> bool:
            return len(answered) > 8

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(call_on, nodes[1 + number % 2])
            await until(several_were_answered, "calls that overlap")
            await drain(nodes[1].app, 6.0, cluster=nodes[1].cluster)
            stopping.set()
        assert nodes[1].app.hub.local(client.id) is None
        assert answered[0] == "node1"
        assert answered[-1] == "node2"
