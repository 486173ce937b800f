"""A request whose session is not here: relayed to its owner, taken over from a dead one, or told why it is lost.

request ─▶ owner known ──────────────relay──▶ answered
   │           └─ it is not there any more ─┐
   └─▶ record in Redis ◀────────────────────┘
        ├─ owner reachable ─────────relay──▶ answered
        ├─ owner gone or record released ──▶ restored here · another's by now: look again · 404 node_gone
        ├─ owner unreachable ──────────────▶ 503, never a claim
        ├─ no record ──▶ the node in the id ──relay──▶ answered · 404 with the reason
        └─ no Redis ───▶ the node in the id ──relay──▶ answered · 503, never 404
"""

from __future__ import annotations

import logging
import re

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.directory import RedisDirectory, told
from trio_mcp.cluster.hop import HOP, Hops, request_target
from trio_mcp.cluster.owner import Owner
from trio_mcp.cluster.owners import Owners
from trio_mcp.cluster.peers import CARD_SECONDS, Peers
from trio_mcp.cluster.record import Identity, Record
from trio_mcp.cluster.redis.link import RedisDown
from trio_mcp.cluster.relay.relay import (
    STRANGER,
    Broken,
    Misdirected,
    Outcome,
    Refused,
    Relay,
    Relayed,
    Unanswered,
    Unreachable,
)
from trio_mcp.cluster.restoring import Restorer
from trio_mcp.observability.logs import event, session_label
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import INTERNAL_ERROR, ProtocolError, SessionNotFound
from trio_mcp.protocol.jsonrpc import InvalidMessage, Request, decode
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.session import Session
from trio_mcp.transports.http import elsewhere as port
from trio_mcp.transports.http.gate import accepts
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, HttpRefusal, send_empty, send_error

__all__ = ["Elsewhere", "no_directory", "unreachable"]

logger = logging.getLogger("trio_mcp.cluster")

LOOKS = 4
"""How often one request looks for its session: each further look means that it moved in between."""

LEAVING_SECONDS = 1.5
"""For a session that leaves this node to be let go of; Redis takes a second at most."""

_SESSION = b"mcp-session-id"
_ID = re.compile(r"[A-Za-z0-9-]{1,63}\.[A-Za-z0-9_-]{1,128}")
"""`node.random`, as the hub makes them."""


class Elsewhere:
    """Finds sessions that are not here. Implements the HTTP front's port."""

    def __init__(
        self,
        hub: Hub,
        directory: RedisDirectory,
        peers: Peers,
        relay: Relay,
        hops: Hops,
        restorer: Restorer,
        me: Identity,
        metrics: Metrics,
        *,
        restore: bool,
        peer_url: str | None,
    ) -> None:
        self._hub = hub
        self._directory = directory
        self._peers = peers
        self._relay = relay
        self._hops = hops
        self._restorer = restorer
        self._me = me
        self._metrics = metrics
        self._restore = restore
        self._peer_url = peer_url
        self._owners = Owners()
        self.stopping = False
        """From the first phase of a drain on: this node claims no session."""
        self.handing_over = False
        """From the second: what belongs to no session is a peer's."""

    # What belongs to no session.

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer; False when this node should."""
        session_id = _session_id(exchange)
        if not self.handing_over or self._hop(exchange, session_id) is not None:
            return False
        for peer in self._peers.ready(session_id):
            outcome = await self._send(exchange, session_id, peer)
            if isinstance(outcome, Relayed):
                return True
            if isinstance(outcome, Broken | Unanswered):
                await _say_broken(exchange, [])
                return True
        return False

    # What belongs to one.

    async def find(
        self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList
    ) -> Session | None:
        """The session, restored here; None when the exchange has been answered.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """
        if not _ID.fullmatch(session_id):
            # None of ours, whatever is in it: nobody need be asked.
            raise SessionNotFound("unknown")
        stays = await self._let_go(session_id, who)
        if stays is not None:
            return stays
        hop = self._hop(exchange, session_id)
        if hop is None and await self._met_before(exchange, session_id, headers):
            return None
        for _ in range(LOOKS):
            try:
                record, stone = await self._directory.look_up(session_id)
            except RedisDown:
                await self._without_directory(exchange, session_id, who, headers, hop)
                return None
            if record is None and stone is None and self._peers.refilling:
                await self._without_directory(exchange, session_id, who, headers, hop)
                return None
            if record is None:
                reason = "unknown" if stone is None or stone.principal != who.digest else stone.reason
                await self._without_record(exchange, session_id, who, headers, hop, reason)
                return None
            if record.principal is not None and record.principal != who.digest:
                raise SessionNotFound("unknown")
            try:
                found = await self._by_record(exchange, session_id, record, who, headers, hop)
            except RedisDown:
                raise no_directory() from None
            if found is not _LOOK_AGAIN:
                return found if isinstance(found, Session) else None
        raise port.Unavailable("moving", "The session is moving between nodes; try again")

    async def _let_go(self, session_id: str, who: Principal) -> Session | None:
        """What this node itself can say of a session it had a moment ago, or has for somebody else.

        The session when it was to leave, and could not.
        """
        session = self._hub.local(session_id)
        if session is None:
            return None
        if session.principal != who:
            raise SessionNotFound("unknown")
        if session.leaving is not None:
            with trio.move_on_after(LEAVING_SECONDS):
                await session.leaving.wait()
        elif session.closed_because == "shutdown" and self._restore:
            raise _not_released_yet()
        elif session.closed_because is not None and session.closed_because not in ("moved", "released"):
            raise SessionNotFound(told(session.closed_because))
        return self._hub.get(session_id, who)

    async def _met_before(self, exchange: HttpExchange, session_id: str, headers: HeaderList) -> bool:
        owner = self._owners.get(session_id)
        return owner is not None and await self._answered(exchange, session_id, owner, headers) is None

    async def _by_record(
        self,
        exchange: HttpExchange,
        session_id: str,
        record: Record,
        who: Principal,
        headers: HeaderList,
        hop: str | None,
    ) -> Session | object | None:
        if record.boot == self._me.boot and not record.released:
            return await self._mine(session_id, record, who)
        if record.released or record.node == self._me.node:
            return await self._gone(exchange, session_id, record, who, headers, hop)
        if hop is not None:
            if await self._is_gone(record, await self._relay.probe(record.url)):
                return await self._gone(exchange, session_id, record, who, headers, hop)
            raise self._misdirected(record.owner)
        outcome = await self._answered(exchange, session_id, record.owner, headers)
        match outcome:
            case None:
                return None
            case Misdirected(boot=boot) if boot == record.boot:
                # It says that it has not what its record says it has: the record is about to change.
                await trio.sleep(LOOK_AGAIN_SECONDS)
                return _LOOK_AGAIN
            case _ if await self._is_gone(record, outcome):
                return await self._gone(exchange, session_id, record, who, headers, hop)
        raise unreachable()

    async def _mine(self, session_id: str, record: Record, who: Principal) -> Session | object:
        """The record says that it is here. If not, it ended a moment ago, or we claimed it and never heard that we got it."""
        here = self._hub.get(session_id, who)
        if here is not None:
            # Another request took it up while this one looked.
            return here
        reason = await self._directory.memory.why_gone(session_id, who)
        if reason == "unknown" and record.restorable and self.stopping:
            raise _not_released_yet()
        if reason != "unknown" or not record.restorable or record.epoch == 0:
            raise SessionNotFound(reason)
        return await self._restorer.take_up(session_id, record, who) or _LOOK_AGAIN

    async def _is_gone(self, record: Record, seen: Outcome | str) -> bool:
        """Nobody listens at its URL, or another process does; or its card fell, its probe fails, and ours stood all the time."""
        match seen:
            case Refused():
                return True
            case str(boot) | Misdirected(boot=boot) if boot != STRANGER:
                return boot != record.boot
            case _:
                fallen = self._peers.boot(record.node) is None and self._peers.stood_for >= CARD_SECONDS
                return fallen and await self._relay.probe(record.url) != record.boot

    async def _gone(
        self,
        exchange: HttpExchange,
        session_id: str,
        record: Record,
        who: Principal,
        headers: HeaderList,
        hop: str | None,
    ) -> Session | object | None:
        self._owners.forget(session_id)
        if exchange.method == "DELETE" and record.readable:
            await self._directory.remove(session_id, record)
            await send_empty(exchange.send, 204, headers)
            return None
        if not (self._restore and record.restorable and record.readable):
            if record.readable and not record.restorable:
                self._directory.bury(session_id, record)
            raise SessionNotFound("node_gone")
        if self.stopping:
            await self._hand_on(exchange, session_id, headers, hop)
            return None
        return await self._restorer.take_up(session_id, record, who) or _LOOK_AGAIN

    async def _hand_on(self, exchange: HttpExchange, session_id: str, headers: HeaderList, hop: str | None) -> None:
        """A node that stops takes up nothing: the ready peer that all nodes would pick does."""
        if hop is not None:
            raise self._misdirected(None)
        for peer in self._peers.ready(session_id):
            if await self._answered(exchange, session_id, peer, headers) is None:
                return
        raise port.Unavailable("unreachable", "No node is ready to take up this session; try again")

    async def _without_record(
        self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList, hop: str | None, reason: str
    ) -> None:
        """Redis knows of no session: the node in the id may know better, for it may still owe the record."""
        remembered = await self._directory.memory.why_gone(session_id, who)
        home = self._home(session_id)
        if reason != "unknown" or remembered != "unknown" or hop is not None or home is None:
            raise SessionNotFound(remembered if remembered != "unknown" else reason)
        outcome = await self._answered(exchange, session_id, home, headers)
        if outcome is None:
            return
        if isinstance(outcome, Unreachable) and self._peers.boot(home.node) is not None:
            raise port.Unavailable("unreachable", "The node that may have this session does not answer; try again")
        raise SessionNotFound("unknown")

    async def _without_directory(
        self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList, hop: str | None
    ) -> None:
        remembered = await self._directory.memory.why_gone(session_id, who)
        if remembered != "unknown":
            raise SessionNotFound(remembered)
        if hop is not None:
            raise self._misdirected(self._owners.get(session_id))
        owner = self._home(session_id)
        outcome: Outcome | None = None
        if owner is not None:
            outcome = await self._answered(exchange, session_id, owner, headers)
            if isinstance(outcome, Misdirected) and outcome.owner is not None:
                outcome = await self._answered(exchange, session_id, outcome.owner, headers)
            if outcome is None:
                return
        raise no_directory()

    # Parts of these.

    def _home(self, session_id: str) -> Owner | None:
        """The node in the id, where it was last seen; None for our own and for one nobody knows."""
        node = session_id.partition(".")[0]
        if node == self._me.node:
            return None
        url = self._peers.url(node) or (self._peer_url.replace("{node}", node) if self._peer_url else "")
        return Owner(node, self._peers.boot(node) or "", -1, url) if url else None

    async def _answered(
        self, exchange: HttpExchange, session_id: str, owner: Owner, headers: HeaderList
    ) -> Outcome | None:
        """None when the exchange is over; else why the owner did not answer it."""
        if not owner.url:
            return Unreachable()
        outcome = await self._send(exchange, session_id, owner)
        match outcome:
            case Relayed(status) if status != 404:
                self._owners.remember(session_id, owner)
                return None
        self._owners.forget(session_id)
        match outcome:
            case Relayed():
                return None
            case Broken():
                await _say_broken(exchange, headers)
                return None
            case Unanswered():
                # It may run yet: nobody else may be asked to run it as well.
                raise unreachable()
        return outcome

    async def _send(self, exchange: HttpExchange, session_id: str, to: Owner) -> Outcome:
        outcome = await self._doubt(to) or await self._relay.send(exchange, exchange.content, session_id, to)
        name = type(outcome).__name__.lower()
        self._metrics.relayed(name)
        if not isinstance(outcome, Relayed):
            event(logger, logging.INFO, "not relayed", session=session_label(session_id), to=to.node, outcome=name)
        return outcome

    async def _doubt(self, owner: Owner) -> Outcome | None:
        """Why `owner` is not sent anything. Where no card vouches for an address, it has to show that it is one of us."""
        if self._peers.vouch_for(owner):
            return None
        seen = await self._relay.probe(owner.url)
        if not isinstance(seen, str):
            return seen
        return None if seen != STRANGER and seen == (owner.boot or seen) else Misdirected(owner.node, seen, None)

    def _hop(self, exchange: HttpExchange, session_id: str) -> str | None:
        """The peer that relayed this request; a header that does not verify is nobody's word, and counted."""
        value = exchange.headers.get(HOP)
        if value is None:
            return None
        node = self._hops.verify(value, exchange.method, request_target(exchange.scope), session_id)
        if node is None:
            self._metrics.hop_refused()
            event(logger, logging.WARNING, "hop header refused", session=session_label(session_id))
        return node

    def _misdirected(self, owner: Owner | None) -> port.Misdirected:
        marker = f"{self._me.node}.{self._me.boot}".encode()
        self._metrics.misroute("elsewhere", "421")
        return port.Misdirected([(b"trio-mcp-misdirected", marker)], msgspec.json.encode({"owner": owner}))


_LOOK_AGAIN = object()
"""The session moved while we looked."""

LOOK_AGAIN_SECONDS = 0.05


def _session_id(exchange: HttpExchange) -> str:
    return exchange.header(_SESSION) or ""


def unreachable() -> port.Unavailable:
    """503: its node may live, and says nothing."""
    return port.Unavailable("unreachable", "The node that has this session does not answer; try again")


def no_directory() -> port.Unavailable:
    """503: Redis is away, and nobody else knew."""
    return port.Unavailable("directory_unavailable", "Where this session is cannot be told now; try again")


def _not_released_yet() -> port.Unavailable:
    """This node is at its end and the session about to be anybody's: to call it lost would make its client open another."""
    return port.Unavailable("moving", "The node of this session stops; try again")


async def _say_broken(exchange: HttpExchange, headers: HeaderList) -> None:
    """The owner died with the request: in band where that can be, for an HTTP error would end Python clients' sessions."""
    message = "The node that ran this request is gone; it may or may not have been done"
    try:
        content = decode(exchange.content) if exchange.content else None
    except InvalidMessage:
        content = None
    if isinstance(content, Request) and accepts(exchange).json:
        fault = ProtocolError(INTERNAL_ERROR, message)
        return await send_error(exchange.send, 200, fault, headers, content.id)
    raise HttpRefusal(502, message)
