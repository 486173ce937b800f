"""What a worker knows of the other workers of its node, and how it reaches them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.siblings import Ended, Sibling, Siblings, node_of, url_of_worker, worker_in
from trio_mcp.sessions.node_state import LifeCycle
from trio_mcp.transports.http.exchange import WORKER
from trio_mcp.transports.http.probes import CHALLENGE, Probes

URL = "unix:/run/b2.http"
HERE = Sibling("node1-w2", "b2", URL, ready=True)
OWNER = Owner("node1-w2", "b2", 3, "http://node1:8000#node1-w2")
ELSEWHERE = Owner("node2-w1", "b9", 0, "http://node2:8000#node2-w1")


def test_a_worker_is_reached_by_its_socket_and_other_nodes_by_their_url() -> None:
    siblings = Siblings()
    assert not siblings
    assert siblings.reached(OWNER) is OWNER
    siblings.heard([HERE], [])
    assert siblings
    assert siblings.reached(OWNER) == Owner("node1-w2", "b2", 3, URL)
    assert siblings.reached(ELSEWHERE) is ELSEWHERE
    assert (siblings.has(OWNER), siblings.has(ELSEWHERE)) == (True, False)
    assert siblings.named("node1-w2") == Owner("node1-w2", "b2", -1, "")
    assert siblings.named("node2-w1") is None


def test_only_the_sockets_of_workers_are_connected_to() -> None:
    siblings = Siblings()
    siblings.heard([HERE], [])
    assert siblings.is_local(URL)
    assert not siblings.is_local("unix:/run/other.sock")
    assert Siblings(everyone=True).is_local("unix:/run/other.sock")


def test_one_that_has_ended_is_none_any_more_and_known_to_be_gone() -> None:
    siblings = Siblings()
    siblings.heard([HERE], [])
    siblings.heard([], [Ended("node1-w2", "b2")])
    assert siblings.has_ended("b2")
    assert siblings.is_out("node1-w2")
    assert not siblings.has(OWNER)
    assert siblings.reached(OWNER) is OWNER
    assert not siblings.is_local(URL)


def test_one_that_is_replaced_gets_no_connections_and_when_the_node_stops_none_gets_anything_new() -> None:
    siblings = Siblings("node1-w1")
    siblings.heard([HERE, Sibling("node1-w3", "b3", "unix:/run/b3.http", ready=False)], [])
    assert siblings.ready_urls() == [URL]
    assert not siblings.is_out("node1-w2")
    siblings.node_stops = True
    assert siblings.is_out("node1-w2")
    assert not siblings.is_out("node2-w1")


def test_workers_of_this_node_are_known_by_their_names_whether_they_live_or_not() -> None:
    siblings = Siblings("node1-w1")
    assert siblings.is_worker("node1-w9")
    assert not siblings.is_worker("node2-w9")
    assert not siblings.is_worker("node1")
    assert not Siblings().is_worker("node1-w9")
    assert not Siblings("node1").is_worker("node1-w9")


async def test_a_worker_that_is_not_known_yet_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    siblings = Siblings()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def introduce() -> None:
            await trio.sleep(0.2)
            siblings.heard([HERE], [])

        nursery.start_soon(introduce)
        assert await siblings.awaited("node1-w2") == Owner("node1-w2", "b2", -1, "")
    assert await siblings.awaited("node1-w7") is None
    assert trio.current_time() - began < 1


async def test_a_challenge_is_answered_by_the_worker_that_is_meant() -> None:
    probes = Probes(LifeCycle(), boot="b1")
    probes.prove = lambda challenge: "proof of b1"
    asked: list[tuple[str, bytes]] = []

    async def answer_for(worker: str, challenge: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        asked.append((worker, challenge))
        return b'{"boot":"b2"}' if worker == "node1-w2" else None

    probes.answer_for = answer_for
    challenge = b"0" * 32

    async def told(*headers: tuple[bytes, bytes]) -> str:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await probes.answer({"method": "GET", "headers": headers}, "/livez", send)
        return str(msgspec.json.decode(sent[1]["body"])["boot"])

    assert await told((CHALLENGE, challenge), (WORKER, b"node1-w2")) == "b2"
    assert await told((CHALLENGE, challenge), (WORKER, b"node1-w1")) == "b1"
    assert await told((CHALLENGE, challenge)) == "b1"
    assert await told((WORKER, b"node1-w2")) == "b1", "only a peer's challenge is passed on"
    assert asked == [("node1-w2", challenge), ("node1-w1", challenge)]


@pytest.mark.parametrize(
    ("name", "node"), [("node1-w2", "node1"), ("a-w1-w12", "a-w1"), ("node1", ""), ("node-w", ""), ("-w1", "")]
)
def test_the_node_of_a_worker(name: str, node: str) -> None:
    assert node_of(name) == node


def test_the_url_of_a_worker_names_it_behind_that_of_its_node() -> None:
    url = url_of_worker("http://node1:8000", "node1-w2")
    assert url == "http://node1:8000#node1-w2"
    assert worker_in(url) == "node1-w2"
    assert worker_in("http://node1:8000") == ""
    assert url_of_worker("", "node1-w2") == ""
