"""Has another node answer a request: checks who is at its address, relays, and tells the client where the response is lost."""

from __future__ import annotations

import logging

import msgspec
import trio

from trio_mcp.cluster.facts import Ended, Facts, Tried, after_relay
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import (
    STRANGER,
    Broken,
    Misdirected,
    Outcome,
    Relayed,
    Unanswered,
    Unreachable,
    is_harmless,
    lost_answer,
)
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.routing import TryAgain
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import LostCall
from trio_mcp.transports.http.cluster_port import Unavailable
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal, send_json

__all__ = ["PeerForwarder", "SessionRequest", "say_lost", "unavailable"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")


class SessionRequest(msgspec.Struct, eq=False):
    """A request whose session is not on this node, and what was learned about it."""

    exchange: HttpExchange
    session_id: str
    hop: str | None
    """The peer that relayed it to this node; None when a client sent it."""
    facts: Facts
    record: Record | None = None
    """The record as it was read last; None when there was none."""
    outcome: Outcome | None = None
    """The outcome of the last relay."""
    since: float = msgspec.field(default_factory=trio.current_time)
    """When this node began to look for its session (trio clock)."""


class PeerForwarder:
    """Relays requests, and notes in `peers` who has answered for a session."""

    def __init__(self, client: PeerClient, peers: Peers, hops: Hops, metrics: Metrics) -> None:
        self._client = client
        self._peers = peers
        self._hops = hops
        self._metrics = metrics

    def origin(self, exchange: HttpExchange, session_id: str) -> str | None:
        """The peer that relayed this request; None when there is no hop header, or one that does not verify, which is counted."""
        value = exchange.head.hop
        if value is None:
            return None
        node = self._hops.verify(value, exchange.method, exchange.head.target, session_id)
        if node is None:
            self._metrics.hop_refused()
            event(logger, logging.WARNING, "hop header refused", session=session_label(session_id))
        return node

    async def relay(self, request: SessionRequest, owner: Owner) -> Ended | Tried:
        """Have `owner` answer the request. If it may have run it and gives no response, the client is told that the response is lost.

        An owner that answered is cached, unless it ended the session. Raises Unavailable where the client expects no response.
        """
        if not self._peers.siblings.url_of(owner):
            request.outcome = Unreachable()
            return Tried.FAILED
        exchange = request.exchange
        request.outcome = outcome = await self.send(exchange, request.session_id, owner)
        result = _result(exchange, outcome, owner.boot)
        if result is Ended.ANSWERED and exchange.method != "DELETE":
            self._peers.owners.remember(request.session_id, owner)
        else:
            self._peers.owners.forget(request.session_id)
        if result is Ended.LOST:
            await say_lost(exchange)
        if result is Ended.SILENT:
            raise unavailable(TryAgain.OWNER_SILENT)
        return result

    async def send(self, exchange: HttpExchange, session_id: str, to: Owner) -> Outcome:
        """Relay to `to`, if the process at its address is the one that is meant."""
        outcome = None if self._peers.is_trusted(to) else await self._wrong_peer(to)
        if outcome is None:
            reached = self._peers.siblings.reached(to)
            outcome = await self._client.send(exchange, exchange.content, session_id, reached)
        name = type(outcome).__name__.lower()
        self._metrics.relayed(name)
        if not isinstance(outcome, Relayed):
            event(logger, logging.INFO, "not relayed", session=session_label(session_id), to=to.node, outcome=name)
        return outcome

    async def _wrong_peer(self, owner: Owner) -> Outcome | None:
        """Challenge an address for which no card vouches: why nothing is sent there, or None."""
        seen = await self._client.probe(owner.url)
        if not isinstance(seen, str):
            return seen
        if seen == STRANGER or seen != (owner.boot or seen):
            return Misdirected(owner.node, seen, None)
        self._peers.membership.proved(owner.url, seen)
        return None


def _result(exchange: HttpExchange, outcome: Outcome, boot: str) -> Ended | Tried:
    unanswered, broken = isinstance(outcome, Unanswered), isinstance(outcome, Broken)
    return after_relay(
        outcome,
        boot,
        post=exchange.method == "POST",
        expects_response=unanswered and lost_answer(exchange.content) is not None,
        harmless=(unanswered or broken) and is_harmless(exchange.content),
    )


def unavailable(why: TryAgain) -> Unavailable:
    """The 503 with that reason and message."""
    return Unavailable(*why.value)


async def say_lost(exchange: HttpExchange) -> None:
    """Tell the client that the response is lost: as a JSON-RPC error, for an HTTP error ends the session of older Python clients.

    Raises HttpRefusal (502) where the client expects no JSON response.
    """
    answer = lost_answer(exchange.content)
    if answer is not None and exchange.takes_json:
        return await send_json(exchange.carrier.send, 200, answer, exchange.cors)
    raise HttpRefusal(502, LostCall().message)
