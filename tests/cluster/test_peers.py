"""Whom a node asks for a session, and at which URL: what is known from cards, of its own workers, and from who answered before."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from tests.cluster.nodes import in_process_cluster
from trio_mcp.cluster.clock import now
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Identity, NodeCard
from trio_mcp.cluster.siblings import Ended, Sibling, Siblings
from trio_mcp.cluster.store.port import NewestNodes

OVER_MEMORY = True

SOCKET = "unix:/run/b2.http"
WORKER = Owner("node1-w2", "b2", 0, "http://node1:8000#node1-w2")
NODE2 = NodeCard("b20", "http://two:8000", "ready", 0, 1, room=1)


def peers(peer_url: str | None = None) -> Peers:
    """As the worker `node1-w1` knows them, which has another worker beside it, and has seen two workers of node 3."""
    siblings = Siblings("node1-w1")
    siblings.heard([Sibling("node1-w2", "b2", SOCKET, ready=True)], [])
    made = Peers(Identity("node1-w1", "b1"), siblings, peer_url)
    of_worker = NodeCard("b31", "http://three:8000#node3-w1", "ready", 0, 1)
    sibling = NodeCard("b2", "http://node1:8000#node1-w2", "ready", 0, 1, room=1)
    made.membership.read({"node2": NODE2, "node3-w1": of_worker, "node1-w2": sibling}, now())
    return made


PATTERN = "http://{node}.mcp:8000/"


@pytest.mark.parametrize(
    ("node", "peer_url", "expected"),
    [
        ("node1-w1", PATTERN, None),
        # A worker beside this one is reached by its socket, which its boot stands for, and not by what its card says.
        ("node1-w2", None, Owner("node1-w2", "b2", -1, "")),
        ("node2", PATTERN, Owner("node2", "b20", -1, "http://two:8000")),
        ("node3-w1", None, Owner("node3-w1", "b31", -1, "http://three:8000#node3-w1")),
        # Where another worker of its node was seen, it is reached there as well.
        ("node3-w7", PATTERN, Owner("node3-w7", "", -1, "http://three:8000#node3-w7")),
        ("node9", None, None),
        ("node9", PATTERN, Owner("node9", "", -1, "http://node9.mcp:8000/")),
        ("node9-w4", PATTERN, Owner("node9-w4", "", -1, "http://node9.mcp:8000#node9-w4")),
    ],
)
async def test_the_home_of_a_session_is_where_its_node_was_seen_or_else_by_the_pattern(
    node: str, peer_url: str | None, expected: Owner | None
) -> None:
    assert peers(peer_url).home(f"{node}.abc") == expected


@pytest.mark.parametrize(
    ("hop", "asked"), [(None, {"node2", "node1-w2"}), ("node2", {"node1-w2"}), ("node1-w2", set())]
)
async def test_what_a_peer_has_relayed_goes_to_workers_of_this_node_alone_and_from_them_nowhere(
    hop: str | None, asked: set[str]
) -> None:
    assert {peer.node for peer in peers().with_room(hop)} == asked


async def test_only_a_worker_of_this_node_that_does_not_stop_is_a_place_to_move_a_connection_to() -> None:
    known = peers()
    assert known.worker_with("node1-w2.abc") is None
    known.owners.remember("node1-w2.abc", WORKER)
    known.owners.remember("node2.abc", Owner("node2", "b20", 0, NODE2.url))
    assert known.worker_with("node1-w2.abc") == SOCKET
    assert known.worker_with("node2.abc") is None
    known.membership.read({"node1-w2": NodeCard("b2", WORKER.url, "draining", 0, 1)}, now())
    assert known.worker_with("node1-w2.abc") is None


async def test_a_session_that_is_here_is_not_elsewhere_whoever_answered_for_it_before(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        known = nodes[1].cluster._peers
        known.siblings.heard([Sibling("node1-w2", "b2", SOCKET, ready=True)], [])
        for each in (client.id, "node1-w2.abc"):
            known.owners.remember(each, WORKER)
        assert nodes[1].cluster.elsewhere("node1-w2.abc") == SOCKET
        assert nodes[1].cluster.elsewhere(client.id) is None


async def test_the_card_of_each_worker_that_has_ended_is_taken_down_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that ends while the card of another is being taken down."""
    async with in_process_cluster(tmp_path) as nodes:
        siblings, taken = nodes[1].cluster._peers.siblings, list[str]()

        async def take_down(node: str, boot: str) -> None:
            taken.append(boot)
            if len(taken) == 1:
                siblings.heard([], [Ended("node1-w2", "b2"), Ended("node1-w3", "b3")])
            await trio.lowlevel.checkpoint()

        monkeypatch.setattr(nodes[1].heartbeat, "take_down", take_down)
        siblings.heard([], [Ended("node1-w2", "b2")])
        await trio.testing.wait_all_tasks_blocked()
        assert taken == ["b2", "b3"]
        monkeypatch.undo()


async def test_a_node_whose_card_is_another_process_stays_listed_when_the_earlier_one_is_taken_down(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path) as nodes:

        async def listed() -> list[bytes]:
            (found,) = await nodes[1].store.run([NewestNodes(10)])
            return sorted(found)

        async with nodes[2].beating:
            await nodes[1].heartbeat.take_down("node2", "an earlier one")
            assert await listed() == [b"node1", b"node2"]
            await nodes[1].heartbeat.take_down("node2", nodes[2].boot)
            assert await listed() == [b"node1"]
