"""Sessions of one client address, where a peer has passed the client's request on: the peer tells the address, in a signed header."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import InProcessCluster, at, hops_of, in_process_cluster
from tests.cluster.test_router import said_by
from tests.transports.http.harness import Wire
from trio_mcp.cluster.hop import Hops

OVER_BOTH_STORES = True

ANN, BOB = "192.0.2.1", "192.0.2.2"
PROXY = "127.0.0.1"
"""Where the clients of these tests are, and nodes on real ports."""


def of(address: str) -> dict[str, str | None]:
    """What the proxy says."""
    return {"x-forwarded-for": address}


@asynccontextmanager
async def full_node(folder: Path, **app: Any) -> AsyncIterator[InProcessCluster]:
    """Two nodes, the first without room; each may have one session of an address."""
    settings = {"max_sessions_per_address": 1, "max_sessions": 4, "forwarded_allow": [PROXY]} | app
    async with in_process_cluster(folder, app=settings, restore=True) as nodes:
        yield nodes


async def opened(wire: Wire, address: str, **headers: str | None) -> int:
    """The status that a client at that address gets for an `initialize`."""
    return await wire.initialize(headers=of(address) | headers).head()


async def fill(nodes: InProcessCluster) -> None:
    """The first node has as many used sessions as it may, of nobody that is counted."""
    for number in range(4):
        client = await nodes[1].wire.open(headers=of(f"198.51.100.{number}"))
        assert await said_by(client.tool("where")) == "node1"
    await nodes.meet()


async def test_a_session_that_a_peer_has_opened_counts_for_its_clients_address(tmp_path: Path) -> None:
    async with full_node(tmp_path) as nodes:
        await fill(nodes)
        assert [await opened(nodes[1].wire, each) for each in (ANN, ANN, BOB)] == [200, 429, 200]
        assert len(nodes[2].app.hub) == 2
        assert await opened(nodes[2].wire, ANN) == 429, "they are sessions of the node that has them"


async def test_a_peer_of_the_release_before_tells_nothing_and_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with full_node(tmp_path) as nodes:
        await fill(nodes)
        monkeypatch.setattr(Hops, "sign_client", lambda *_: b"")
        assert [await opened(nodes[1].wire, ANN) for _ in range(2)] == [200, 200]


async def test_a_session_that_is_restored_counts_for_its_clients_address(tmp_path: Path) -> None:
    async with full_node(tmp_path) as nodes:
        client = await nodes[1].wire.open(headers=of(ANN))
        await nodes[1].die()
        assert await said_by(at(nodes[2], client).tool("where", headers=of(ANN))) == "node2"
        assert await opened(nodes[2].wire, ANN) == 429
        assert await at(nodes[2], client).delete().nothing() == 204
        assert await opened(nodes[2].wire, ANN) == 200


async def test_so_does_one_that_a_node_which_stops_has_had_restored_by_a_peer(tmp_path: Path) -> None:
    async with full_node(tmp_path) as nodes:
        client = await nodes[1].wire.open(headers=of(ANN))
        nodes[1].hand_over()
        await nodes.meet()
        session = nodes[1].app.hub.local(client.id)
        assert session is not None
        assert await nodes[1].cluster.release(session)
        assert await said_by(client.tool("where", headers=of(ANN))) == "node2"
        assert await opened(nodes[2].wire, ANN) == 429


@pytest.mark.parametrize("kind", ["not signed", "of another hop", "of a stranger", "beside no hop"])
async def test_only_what_a_peer_has_signed_is_believed(tmp_path: Path, kind: str) -> None:
    async with full_node(tmp_path) as nodes:
        assert await opened(nodes[2].wire, ANN) == 200
        hop = hops_of("node1").sign("POST", b"/mcp", "")
        signed = {
            "not signed": b"192.0.2.2",
            "of another hop": hops_of("node1").sign_client(b"node1.b.1.0", BOB),
            "of a stranger": hops_of("node1", b"guessed").sign_client(hop, BOB),
            "beside no hop": hops_of("node1").sign_client(hop, BOB),
        }[kind]
        told = {"trio-mcp-client": signed.decode()} | (
            {} if kind == "beside no hop" else {"trio-mcp-hop": hop.decode()}
        )
        # Beside a hop header that holds nobody is counted, for the request comes from a peer, and not from its client.
        assert await opened(nodes[2].wire, ANN, **told) == (429 if kind == "beside no hop" else 200)
        assert await opened(nodes[2].wire, BOB) == 200, "nobody was counted for an address that was not told"


async def test_what_a_peer_has_signed_counts_and_not_the_address_that_the_request_comes_from(tmp_path: Path) -> None:
    async with full_node(tmp_path) as nodes:
        hop = hops_of("node1").sign("POST", b"/mcp", "")
        told = {"trio-mcp-hop": hop.decode(), "trio-mcp-client": hops_of("node1").sign_client(hop, BOB).decode()}
        assert await opened(nodes[2].wire, ANN, **told) == 200
        assert await opened(nodes[2].wire, BOB) == 429
        assert await opened(nodes[2].wire, ANN) == 200
