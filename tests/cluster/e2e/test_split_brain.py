"""Two that think they have the same session, or the same name: one has it, the other lets go and harms nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import trio

from tests.rig.background_clients import background_clients
from tests.rig.client import Answer, LegacyClient, ListenEnd, OpenClient
from tests.rig.cluster import Cluster, cluster
from tests.rig.load import load
from tests.rig.nodes import Node
from tests.rig.records import all_on_record, on_record, record_of, tombstone_of
from tests.rig.request_rounds import patiently
from tests.rig.waiting import PATIENCE, until

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

PAUSE_SECONDS = 30.0
IDLE_SECONDS = 18
"""Shorter than the pause: what is idle on the paused node ends in the moment it wakes."""
SESSIONS = 8


async def test_a_node_that_slept_while_others_took_over_serves_nothing_stale_and_deletes_nothing_of_theirs(
    open_client: OpenClient,
) -> None:
    async with cluster(restore=True, flags=("--session-idle-timeout", f"{IDLE_SECONDS}s")) as whole:
        sleeper, *others = whole.nodes
        taken, idle, kept = [await _opened(whole, sleeper, count, open_client) for count in (SESSIONS, 2, 2)]
        async with trio.open_nursery() as nursery:
            ends: dict[str, ListenEnd] = {}
            for client in [*taken, *kept]:
                nursery.start_soon(_listen, sleeper, client, ends)
            await until(partial(_streams, sleeper, SESSIONS + 2), "all streams are open")

            sleeper.pause()
            wakes_at = trio.current_time() + PAUSE_SECONDS
            await _taken_over_once(whole, others, [*taken, *idle])
            owners = {client.session: await record_of(whole, client.session) for client in [*taken, *idle]}
            async with trio.open_nursery() as stale:
                answers: dict[str, Answer] = {}
                for client in taken:
                    stale.start_soon(_count_run, client, answers)
                await trio.sleep_until(wakes_at)
                for client in [*taken, *idle]:
                    # Where they are now they are as idle as here, and shall not end before all has been looked at.
                    assert not (await patiently(_at(others[0], client))).error
                sleeper.resume()

            # Each was answered, by whom the session belongs to, and nowhere else did it run.
            assert {client.session: answers[client.session].told.get("node") for client in taken} == {
                client.session: owners[client.session]["node"] for client in taken
            }
            assert {node for name, node in _runs(whole) if name in owners} <= {node.name for node in others}
            assert {name: whole.runs()[name] for name in answers} == dict.fromkeys(answers, 1)

            await until(partial(_only, sleeper, kept), "the sleeper has let go of what is another's")
            await until(partial(_have_ended, taken, ends), "the streams of what was taken over have ended")
            assert all(ends[client.session].clean for client in taken)
            for session, owner in owners.items():
                assert await record_of(whole, session) == owner
                stone = await tombstone_of(whole, session)
                assert (stone.get("boot"), stone.get("epoch")) != (owner["boot"], owner["epoch"])
            for client in kept:
                told = (await client.tool("where")).told
                assert (told["node"], told["restored"]) == (sleeper.name, False)
            for client in idle:
                assert (await client.tool("where")).told["node"] == owners[client.session]["node"]
            nursery.cancel_scope.cancel("seen enough")


async def test_nodes_that_take_up_a_session_at_once_agree_on_one_of_them_and_both_answer(
    open_client: OpenClient,
) -> None:
    async with cluster(restore=True) as whole:
        node1, *others = whole.nodes
        clients = await _opened(whole, node1, 2 * SESSIONS, open_client)
        await node1.kill()
        await _taken_over_once(whole, others, clients)
        assert await whole.metric("trio_mcp_restores_total", outcome="restored") == 2 * SESSIONS

        # Started again under its name, it asks for no session that is another's now.
        before = {client.session: await record_of(whole, client.session) for client in clients}
        await node1.start()
        await _taken_over_once(whole, whole.nodes, clients)
        assert {client.session: await record_of(whole, client.session) for client in clients} == before


async def test_a_node_that_is_back_under_its_name_at_once_is_nobodys_double_and_its_sessions_go_on(
    open_client: OpenClient,
) -> None:
    async with cluster(restore=True) as whole:
        node1 = whole.node("node1")
        clients = await _opened(whole, node1, 2 * SESSIONS, open_client)
        await node1.kill()
        await node1.start()
        await _taken_over_once(whole, whole.nodes, clients)
        (fresh,) = await _opened(whole, node1, 1, open_client)
        assert (await fresh.tool("where")).told["node"] == "node1"
        await all_on_record(whole)
        assert not whole.logged("an earlier process has this node's id")
        assert all([await node.probe("/readyz", PATIENCE) == 200 for node in whole.nodes])


async def test_a_second_process_with_a_nodes_id_ends_says_where_the_first_is_and_no_call_fails(
    open_client: OpenClient,
) -> None:
    async with cluster(restore=True) as whole, background_clients(whole.url) as background:
        async with load(whole.url, clients=15) as traffic:
            await traffic.settled(2)
            first = whole.node("node2")
            there, *_ = await _opened(whole, first, 1, open_client)
            second = whole.twin("node2")
            await second.launch()
            with trio.fail_after(PATIENCE):
                assert await second.process.wait() == 1
            said = second.run.log
            assert "the node id node2 is taken" in said
            assert first.url in said
            assert first.process.poll() is None
            assert (await record_of(whole, there.session))["boot"] == await first.boot()
            assert (await there.tool("where")).told["process"] == first.process.pid
            await traffic.settled(2)
            await all_on_record(whole)
        assert not traffic.failed, traffic.summary()
        assert not traffic.reopened, traffic.summary()
    assert [(client.connects, client.failures) for client in background] == [(1, [])] * 3


async def test_a_second_process_with_a_draining_nodes_id_waits_for_it_and_takes_its_place(
    open_client: OpenClient,
) -> None:
    flags = ("--drain-delay", "1s", "--drain-timeout", "5s")
    async with cluster(restore=True, flags=flags) as whole, background_clients(whole.url) as background:
        async with load(whole.url, clients=15) as traffic:
            await traffic.settled(2)
            first = whole.node("node2")
            first.process.terminate()
            second = whole.twin("node2")
            await second.start()
            assert await first.process.wait() == 0
            whole.nodes[whole.nodes.index(first)] = second
            await traffic.settled(2)
            await all_on_record(whole)
        assert not traffic.failed, traffic.summary()
        assert not traffic.reopened, traffic.summary()
    assert [(client.connects, client.failures) for client in background] == [(1, [])] * 3


async def _opened(whole: Cluster, node: Node, count: int, open_client: OpenClient) -> list[LegacyClient]:
    clients = [await open_client(f"{node.url}/mcp") for _ in range(count)]
    await on_record(whole, *(client.session for client in clients), initialized=True)
    return clients


async def _listen(node: Node, client: LegacyClient, ends: dict[str, ListenEnd]) -> None:
    listener = _at(node, client)
    ends[client.session] = await listener.listen()


async def _have_ended(clients: Sequence[LegacyClient], ends: dict[str, ListenEnd]) -> bool:
    return all(client.session in ends for client in clients)


async def _count_run(client: LegacyClient, answers: dict[str, Answer]) -> None:
    """On the connection that it has had all the time."""
    answers[client.session] = await client.tool("count_runs", call=client.session)


async def _taken_over_once(whole: Cluster, nodes: Sequence[Node], clients: Sequence[LegacyClient]) -> None:
    """Every session asked for at all these nodes in the same moment: all answer, and the same process does each time."""
    answers: dict[str, list[Answer]] = {client.session: [] for client in clients}
    async with trio.open_nursery() as nursery:
        for client in clients:
            for node in nodes:
                nursery.start_soon(_ask, _at(node, client), answers[client.session])
    for session, both in answers.items():
        assert [answer.error for answer in both] == [""] * len(nodes)
        (process,) = {answer.told["process"] for answer in both}
        record = await record_of(whole, session)
        assert process in {node.process.pid for node in whole.nodes if node.name == record["node"]}


async def _ask(client: LegacyClient, answers: list[Answer]) -> None:
    """As a client would: again, as long as it hears that it should come back, or that a node which hangs has its question."""

    async def asked() -> Answer | None:
        answer = await client.tool("where")
        return None if answer.status == 503 or "may or may not" in answer.error else answer

    found = await until(asked, "an answer other than to come back", pause=1)
    assert found is not None
    answers.append(found)


def _at(node: Node, client: LegacyClient) -> LegacyClient:
    """Another client of the same session, whose requests go to that node, each on a connection of its own."""
    other = LegacyClient(f"{node.url}/mcp", fresh=True)
    other.session = client.session
    return other


async def _streams(node: Node, count: int) -> bool:
    return await node.metric("trio_mcp_streams_active", kind="get") == count


async def _only(node: Node, clients: Sequence[LegacyClient]) -> bool:
    there = {each["session"] for each in await node.sessions()}
    return there == {client.session.rpartition(".")[2][:8] for client in clients}


def _runs(whole: Cluster) -> list[tuple[str, str]]:
    """Call and node of each run."""
    return [(name, node) for name, node, _ in map(str.split, whole.runs_file.read_text().splitlines())]
