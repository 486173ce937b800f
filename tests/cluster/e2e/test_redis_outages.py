"""Redis stopped, emptied, brought back and frozen under load: nobody who has a session notices, and all is on record again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.rig.client import Answer, LegacyClient
from tests.rig.cluster import Cluster, cluster
from tests.rig.http_connection import Response, fetch
from tests.rig.nodes import Node
from tests.rig.outages import CALLS, CLIENTS, KINDS, Story, observe
from tests.rig.records import on_record, record_of, wrong_records
from tests.rig.request_rounds import Asked, patiently
from tests.rig.waiting import PATIENCE, until

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

AWAY = [kind for kind in KINDS if kind != "restarted empty at once"]


@pytest.fixture(scope="module")
def story() -> Story:
    return trio.run(observe)


def test_no_call_fails_or_runs_twice_and_nobody_opens_a_second_session(story: Story) -> None:
    assert len(story.traffic.openings) == CLIENTS, story.traffic.summary()
    assert not story.traffic.failed, story.traffic.summary()
    assert set(story.runs.values()) == {1}


def test_no_stream_ends(story: Story) -> None:
    assert len(story.traffic.streams) == CLIENTS


def test_the_official_clients_see_nothing_of_it(story: Story) -> None:
    assert [(client.connects, client.failures) for client in story.background] == [(1, [])] * 3
    assert all(client.calls >= CALLS for client in story.background)


def test_all_nodes_stay_alive_and_ready(story: Story) -> None:
    assert Counter(status for *_, status in story.probes).keys() == {200}


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_open_while_redis_is_away(story: Story, kind: str) -> None:
    assert _answers(story.outages[kind].of("opening")) == {(200, "")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_reached_through_its_own_node_and_through_any_other_that_knows_it(story: Story, kind: str) -> None:
    outage = story.outages[kind]
    assert _answers(outage.of("own")) == {(200, "")}
    assert _answers(outage.of("another's")) == {(200, "")}
    assert all(asked.relay for asked in outage.of("another's"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_moved_is_never_told_to_be_gone(story: Story, kind: str) -> None:
    answers = _answers(story.outages[kind].of("moved"))
    assert (200, "") in answers
    assert answers <= {(200, ""), (503, "directory_unavailable")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_its_client_ends_is_ended_everywhere(story: Story, kind: str) -> None:
    outage = story.outages[kind]
    assert _answers(outage.of("deleting")) == {(204, "")}
    assert _answers(outage.of("deleted")) == {(404, "deleted")}


@pytest.mark.parametrize("kind", AWAY)
def test_of_a_session_on_a_node_nobody_knows_is_said_that_this_cannot_be_told_now(story: Story, kind: str) -> None:
    assert _answers(story.outages[kind].of("nobody's", away=True)) == {(503, "directory_unavailable")}


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_hangs(story: Story, kind: str) -> None:
    assert all(asked.answered for asked in story.outages[kind].asked)


@pytest.mark.parametrize("kind", KINDS)
def test_after_its_return_redis_has_every_session_as_it_is(story: Story, kind: str) -> None:
    outage = story.outages[kind]
    assert outage.right, outage.wrong


@pytest.mark.parametrize("kind", KINDS)
def test_no_session_is_taken_over_from_a_node_that_lives(story: Story, kind: str) -> None:
    assert story.outages[kind].restored == 0


def test_no_thread_is_left_over(story: Story) -> None:
    assert {node: after for node, (before, after) in story.threads.items() if after > before} == {}


def _answers(asked: list[Asked]) -> set[tuple[int, str]]:
    assert asked
    return {(each.status, each.reason) for each in asked}


async def test_nodes_start_without_redis_and_find_each_other_by_name_or_when_it_comes() -> None:
    async with cluster(2, restore=True, appendonly=True) as whole:
        node1, node2 = whole.nodes
        doomed = await _opened(node2)
        await on_record(whole, doomed, initialized=True)
        named = _another(whole, "localhost")
        named.host = "localhost"
        late = _another(whole, "late", "--peer-url", f"http://{{node}}:{named.port}")

        await whole.redis.stop()
        await named.start()
        await whole.redis.start()
        whole.redis.pause()
        await late.start()
        theirs, his = await _opened(named), await _opened(late)

        # What `--peer-url` names is reached, what nobody has heard of is not, nor who is dead or says nothing.
        answer = await _where(late, theirs)
        assert (answer.told["node"], answer.relay) == ("localhost", "late to localhost")
        assert _said(await _asked(node1, his)) == (503, "directory_unavailable", "1")
        await node2.kill()
        assert _said(await _asked(node1, doomed)) == (503, "directory_unavailable", "1")
        named.pause()
        assert _said(await _asked(late, theirs)) == (503, "directory_unavailable", "1")
        named.resume()

        whole.redis.resume()
        await _all_on_record(whole, doomed)
        assert (await _where(node1, theirs, patiently)).relay == "node1 to localhost"
        assert (await _where(node1, his, patiently)).relay == "node1 to late"
        assert (await _where(node1, doomed, patiently)).told["restored"]
        assert (await record_of(whole, doomed))["epoch"] == 1


def _another(whole: Cluster, name: str, *flags: str) -> Node:
    """A node that Traefik does not know; the cluster ends it."""
    model = whole.nodes[0]
    node = Node(name, model.nursery, flags=[*model.flags, *flags], environment=model.environment)
    whole.nodes.append(node)
    return node


async def _opened(node: Node) -> str:
    client = LegacyClient(f"{node.url}/mcp", fresh=True)
    assert not (await client.initialize()).error
    return client.session


async def _once(client: LegacyClient) -> Answer:
    return await client.tool("where")


async def _where(node: Node, session: str, ask: Callable[[LegacyClient], Awaitable[Answer]] = _once) -> Answer:
    client = LegacyClient(f"{node.url}/mcp", fresh=True)
    client.session = session
    with trio.fail_after(PATIENCE):
        return await ask(client)


async def _asked(node: Node, session: str) -> Response:
    """A ping, as it looks on the connection."""
    headers = {"mcp-session-id": session, "accept": "application/json, text/event-stream"}
    ping = b'{"jsonrpc":"2.0","id":"ping","method":"ping"}'
    with trio.fail_after(PATIENCE):
        return await fetch(f"{node.url}/mcp", "POST", {**headers, "content-type": "application/json"}, ping)


def _said(response: Response) -> tuple[int, str, str]:
    return response.status, response.json()["error"]["data"]["reason"], response.header("retry-after")


async def _all_on_record(whole: Cluster, doomed: str) -> None:
    """All but the one that died with its node."""

    async def asked() -> bool:
        return all(doomed.rpartition(".")[2][:8] in fault for fault in await wrong_records(whole))

    await until(asked, "every session is on record")
