"""Has another node answer a request: checks who is at its address, relays, and tells the client where the response is lost."""

from __future__ import annotations

import logging

import msgspec
import trio

from trio_mcp.cluster.facts import Ended, Facts, Tried, after_relay
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.membership import Membership
from trio_mcp.cluster.owner_cache import Owner, OwnerCache
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
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.routing import TryAgain
from trio_mcp.cluster.siblings import Siblings, node_of, url_of_worker
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
    """Relays requests for the node `own_node`, and keeps the owner cache up to date.

    `peer_url` is the pattern for the addresses of nodes that were not seen yet, with `{node}` in it.
    """

    def __init__(
        self,
        relay: PeerClient,
        membership: Membership,
        owners: OwnerCache,
        hops: Hops,
        metrics: Metrics,
        *,
        own_node: str,
        peer_url: str | None,
        siblings: Siblings,
    ) -> None:
        self._relay = relay
        self._membership = membership
        self._hops = hops
        self._metrics = metrics
        self._own_node = own_node
        self._peer_url = peer_url
        self._siblings = siblings
        self.owners: OwnerCache = owners

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

    def home(self, session_id: str) -> Owner | None:
        """The node in the id, where it was seen last; None for this node, and for one whose address is not known."""
        node = session_id.partition(".")[0]
        if node == self._own_node:
            return None
        sibling = self._siblings.named(node)
        if sibling is not None:
            return sibling
        url = self._membership.url(node) or self._url_by_name(node)
        return Owner(node, self._membership.expected(node), -1, url) if url else None

    def _url_by_name(self, node: str) -> str:
        of_worker = node_of(node)
        if of_worker and (seen := self._membership.url_of(of_worker)):
            return url_of_worker(seen, node)
        if not self._peer_url:
            return ""
        if of_worker:
            return url_of_worker(self._peer_url.replace("{node}", of_worker).rstrip("/"), node)
        return self._peer_url.replace("{node}", node)

    async def relay(self, request: SessionRequest, owner: Owner) -> Ended | Tried:
        """Have `owner` answer the request. If it may have run it and gives no response, the client is told that the response is lost.

        An owner that answered is cached, unless it ended the session. Raises Unavailable where the client expects no response.
        """
        if not self._siblings.url_of(owner):
            request.outcome = Unreachable()
            return Tried.FAILED
        exchange = request.exchange
        request.outcome = outcome = await self.send(exchange, request.session_id, owner)
        result = _result(exchange, outcome, owner.boot)
        if result is Ended.ANSWERED and exchange.method != "DELETE":
            self.owners.remember(request.session_id, owner)
        else:
            self.owners.forget(request.session_id)
        if result is Ended.LOST:
            await say_lost(exchange)
        if result is Ended.SILENT:
            raise unavailable(TryAgain.OWNER_SILENT)
        return result

    async def send(self, exchange: HttpExchange, session_id: str, to: Owner) -> Outcome:
        """Relay to `to`, if the process at its address is the one that is meant."""
        outcome = None if self._is_trusted(to) else await self._wrong_peer(to)
        if outcome is None:
            reached = self._siblings.reached(to)
            outcome = await self._relay.send(exchange, exchange.content, session_id, reached)
        name = type(outcome).__name__.lower()
        self._metrics.relayed(name)
        if not isinstance(outcome, Relayed):
            event(logger, logging.INFO, "not relayed", session=session_label(session_id), to=to.node, outcome=name)
        return outcome

    def _is_trusted(self, owner: Owner) -> bool:
        """Whether requests may be sent to its address at once.

        The socket of a worker has the name of its process, in a folder of ours: no other process can have it.
        """
        return self._siblings.has(owner) or self._membership.vouch_for(owner)

    async def _wrong_peer(self, owner: Owner) -> Outcome | None:
        """Challenge an address for which no card vouches: why nothing is sent there, or None."""
        seen = await self._relay.probe(owner.url)
        if not isinstance(seen, str):
            return seen
        if seen == STRANGER or seen != (owner.boot or seen):
            return Misdirected(owner.node, seen, None)
        self._membership.proved(owner.url, seen)
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
