"""Having another node answer a request: which one, whether it is who we think, and what became of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.facts import Ended, Facts, Tried, after_relay
from trio_mcp.cluster.hop import Hops, request_target
from trio_mcp.cluster.membership import Membership
from trio_mcp.cluster.owner_cache import Owner, OwnerCache
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import STRANGER, Misdirected, Outcome, Relayed, Unanswered, Unreachable, lost_answer
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.routing import TryAgain
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import LostCall
from trio_mcp.transports.http.cluster_port import Unavailable
from trio_mcp.transports.http.exchange import HeaderList, HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal, send_json

__all__ = ["PeerForwarder", "SessionRequest", "say_broken", "unavailable"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")


@dataclass(slots=True)
class SessionRequest:
    """A request whose session is not on this node, and what has been learned on its way; `headers` are for our own responses."""

    exchange: HttpExchange
    session_id: str
    who: Principal
    headers: HeaderList
    hop: str | None
    """The peer that relayed it to us: it is relayed no further."""
    facts: Facts
    record: Record | None = None
    """As it was read last."""
    outcome: Outcome | None = None
    """Of the last relay."""
    since: float = field(default_factory=trio.current_time)
    """When it began (trio clock)."""


class PeerForwarder:
    """Relays requests, and remembers who answered."""

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
    ) -> None:
        self._relay = relay
        self._membership = membership
        self._hops = hops
        self._metrics = metrics
        self._own_node = own_node
        self._peer_url = peer_url
        self.owners: OwnerCache = owners

    def origin(self, exchange: HttpExchange, session_id: str) -> str | None:
        """The peer that relayed this request; a header that does not verify is nobody's word, and counted."""
        value = exchange.hop
        if value is None:
            return None
        node = self._hops.verify(value, exchange.method, request_target(exchange.scope), session_id)
        if node is None:
            self._metrics.hop_refused()
            event(logger, logging.WARNING, "hop header refused", session=session_label(session_id))
        return node

    def home(self, session_id: str) -> Owner | None:
        """The node in the id, where it was last seen; None for our own and for one nobody knows."""
        node = session_id.partition(".")[0]
        if node == self._own_node:
            return None
        url = self._membership.url(node) or (self._peer_url.replace("{node}", node) if self._peer_url else "")
        return Owner(node, self._membership.expected(node), -1, url) if url else None

    async def relay(self, request: SessionRequest, owner: Owner) -> Ended | Tried:
        """Have `owner` answer the request, and say so to the client where a peer that may have run it gives no answer.

        The owner cache remembers who answered, and forgets who did not, or who ended the session. Raises Unavailable.
        """
        if not owner.url:
            request.outcome = Unreachable()
            return Tried.FAILED
        exchange = request.exchange
        request.outcome = outcome = await self.send(exchange, request.session_id, owner)
        lost = lost_answer(exchange.content) if isinstance(outcome, Unanswered) else None
        result = after_relay(outcome, owner.boot, post=exchange.method == "POST", expects_response=lost is not None)
        if result is Ended.ANSWERED and exchange.method != "DELETE":
            self.owners.remember(request.session_id, owner)
        else:
            self.owners.forget(request.session_id)
        if result is Ended.LOST:
            await say_broken(exchange, request.headers)
        if result is Ended.SILENT:
            # It may run yet: its client must not be told to send it again as if nothing had happened, but it expects no answer.
            raise unavailable(TryAgain.OWNER_SILENT)
        return result

    async def send(self, exchange: HttpExchange, session_id: str, to: Owner) -> Outcome:
        """PeerClient it to `to`, if that is who we think."""
        outcome = await self._doubt(to) or await self._relay.send(exchange, exchange.content, session_id, to)
        name = type(outcome).__name__.lower()
        self._metrics.relayed(name)
        if not isinstance(outcome, Relayed):
            event(logger, logging.INFO, "not relayed", session=session_label(session_id), to=to.node, outcome=name)
        return outcome

    async def _doubt(self, owner: Owner) -> Outcome | None:
        """Why `owner` is not sent anything. Where no card vouches for an address, it has to show that it is one of us."""
        if self._membership.vouch_for(owner):
            return None
        seen = await self._relay.probe(owner.url)
        if not isinstance(seen, str):
            return seen
        if seen == STRANGER or seen != (owner.boot or seen):
            return Misdirected(owner.node, seen, None)
        self._membership.proved(owner.url, seen)
        return None


def unavailable(why: TryAgain) -> Unavailable:
    """The 503 that says so."""
    return Unavailable(*why.value)


async def say_broken(exchange: HttpExchange, headers: HeaderList) -> None:
    """The owner died with the request: in band where that can be, for an HTTP error would end Python clients' sessions."""
    answer = lost_answer(exchange.content)
    if answer is not None and exchange.takes_json:
        return await send_json(exchange.send, 200, answer, headers)
    raise HttpRefusal(502, LostCall().message)
