"""Whom a node sends requests to: an address is trusted once its process is proved, but for the workers of one node."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import Outcome, Relayed
from trio_mcp.cluster.peer_forwarder import PeerForwarder
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Identity
from trio_mcp.cluster.siblings import Siblings
from trio_mcp.observability.metrics import Metrics
from trio_mcp.transports.http.exchange import HttpExchange


class Client:
    """In the place of PeerClient: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def probe(self, url: str) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append(f"probe {url}")
        return "b2"

    async def send(self, exchange: HttpExchange, content: bytes, session_id: str, to: Owner) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.asked.append(f"send {to.url}")
        return Relayed(200)


@pytest.mark.parametrize("local", [False, True], ids=["another node", "a worker of this node"])
async def test_an_address_that_no_card_vouches_for_is_proved_unless_it_has_the_name_of_its_process(local: bool) -> None:
    client = Client()
    peers = Peers(Identity("node1", "b1"), Siblings(everyone=local))
    hops = Hops([b"k" * 32], node="node1", boot="b1")
    forwarder = PeerForwarder(cast("PeerClient", client), peers, hops, Metrics())
    url = "unix:/run/b2.http"
    exchange: Any = HttpExchange.over_asgi(
        {"type": "http", "method": "POST", "path": "/mcp", "headers": []}, trio.sleep_forever, cast("Any", None)
    )
    assert await forwarder.send(exchange, "node2.x", Owner("node2", "b2", -1, url)) == Relayed(200)
    assert client.asked == ([f"send {url}"] if local else [f"probe {url}", f"send {url}"])
