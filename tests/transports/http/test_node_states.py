"""The HTTP front does what the table of node states says, cell by cell; the other nodes are played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.transports.http.harness import Exchange, Wire
from trio_mcp import MCPServer
from trio_mcp.protocol.errors import SessionNotFound
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.node_state import ANSWERS, CLUSTER, KEYS, NodeState, Served
from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.http.cluster_port import Answered, Route
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import send_json

PATHS: dict[NodeState, list[NodeState]] = {
    NodeState.STARTING: [],
    NodeState.KEYLESS: [],
    NodeState.JOINING: [],
    NodeState.READY: [NodeState.READY],
    NodeState.DRAINING: [NodeState.READY, NodeState.DRAINING],
    NodeState.CLOSING: [NodeState.READY, NodeState.DRAINING, NodeState.CLOSING],
    NodeState.LEAVING: [NodeState.READY, NodeState.DRAINING, NodeState.LEAVING],
    NodeState.STOPPING: [NodeState.READY, NodeState.DRAINING, NodeState.LEAVING, NodeState.STOPPING],
    NodeState.STOPPED: [],
}
"""From JOINING or KEYLESS to each state."""

PEER, HERE, REFUSED = "a peer", "here", "503"


class Peers:
    """Other nodes, of which one takes new work, if any is `ready`; every session that is not here is on one of them."""

    overslept = False

    def __init__(self, *, ready: bool) -> None:
        self.ready = ready

    async def catch_up(self) -> None:
        raise NotImplementedError

    def told_address(self, exchange: HttpExchange, *, seen: str | None) -> str | None:
        raise NotImplementedError

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        return False

    async def pass_on(self, exchange: HttpExchange) -> bool:
        if self.ready:
            await send_json(exchange.carrier.send, 299, b"{}", [])
        return self.ready

    async def route(self, exchange: HttpExchange, session_id: str) -> Route:
        if not self.ready:
            raise SessionNotFound(CloseReason.UNKNOWN)
        await send_json(exchange.carrier.send, 299, b"{}", [])
        return Answered()


async def anything() -> None:
    """A tool, for without one there is no `tools/list`."""


@asynccontextmanager
async def node_in(state: NodeState, *, peer: bool) -> AsyncIterator[tuple[Wire, str]]:
    """A node in that state, and the id of a session that was opened on it before, where it has run."""
    mcp = MCPServer("test")
    mcp.tool(anything)
    app = mcp.http_app()
    app.endpoint.join(Peers(ready=peer))
    app.life.waits_for |= {CLUSTER, KEYS} if state is NodeState.KEYLESS else {CLUSTER}
    async with asgi_client(app) as client, AsyncExitStack() as stack:
        wire = Wire(app, client)
        session_id = "node.unopened"
        if state is not NodeState.STARTING:
            await stack.enter_async_context(app.running())
            session_id = (await wire.open()).id
        if state is NodeState.STOPPED:
            await stack.aclose()
        for each in PATHS[state]:
            app.life.enter(each)
        assert app.life.state is state
        yield wire, session_id


async def answered_by(exchange: Exchange) -> str:
    return {200: HERE, 299: PEER, 503: REFUSED}[await exchange.head()]


def ping(wire: Wire, session_id: str) -> Exchange:
    headers = {"mcp-session-id": session_id, "mcp-protocol-version": "2025-11-25"}
    return wire.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers)


each_state = pytest.mark.parametrize("state", NodeState, ids=lambda state: state.name)
with_and_without = pytest.mark.parametrize("peer", [True, False], ids=["with a peer", "alone"])


@each_state
@pytest.mark.parametrize("probe", ["livez", "readyz"])
async def test_the_probes(state: NodeState, probe: str) -> None:
    async with node_in(state, peer=True) as (wire, _):
        exchange = wire.start("GET", path=f"/{probe}")
        assert await exchange.head() == (200 if getattr(ANSWERS[state], probe) else 503)


EXPECTED = {
    (Served.NOT_RUNNING, True): REFUSED,
    (Served.NOT_RUNNING, False): REFUSED,
    (Served.HERE, True): HERE,
    (Served.HERE, False): HERE,
    (Served.HERE_ELSE_OWNER, True): HERE,
    (Served.HERE_ELSE_OWNER, False): HERE,
    (Served.PEER_ELSE_HERE, True): PEER,
    (Served.PEER_ELSE_HERE, False): HERE,
    (Served.PEER_ELSE_REFUSED, True): PEER,
    (Served.PEER_ELSE_REFUSED, False): REFUSED,
}


@each_state
@with_and_without
async def test_initialize(state: NodeState, peer: bool) -> None:
    async with node_in(state, peer=peer) as (wire, _):
        assert await answered_by(wire.initialize()) == EXPECTED[ANSWERS[state].initialize, peer]


@each_state
@with_and_without
async def test_a_modern_request(state: NodeState, peer: bool) -> None:
    async with node_in(state, peer=peer) as (wire, _):
        assert await answered_by(wire.modern().start("tools/list")) == EXPECTED[ANSWERS[state].modern, peer]


@each_state
@with_and_without
async def test_a_request_of_a_session_here(state: NodeState, peer: bool) -> None:
    async with node_in(state, peer=peer) as (wire, session_id):
        assert await answered_by(ping(wire, session_id)) == EXPECTED[ANSWERS[state].session_requests, peer]


@each_state
async def test_a_request_of_a_session_elsewhere_is_relayed_as_long_as_the_node_runs(state: NodeState) -> None:
    async with node_in(state, peer=True) as (wire, _):
        relays = ANSWERS[state].session_requests is Served.HERE_ELSE_OWNER
        assert await answered_by(ping(wire, "node.elsewhere")) == (PEER if relays else REFUSED)
