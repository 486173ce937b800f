"""A request whose session is not here: relayed to its owner, taken over from a dead one, or told why it is lost.

request ─▶ owner known ──────────────relay──▶ answered
   │           └─ it is not there any more ─┐
   └─▶ record in Redis ◀────────────────────┘
        ├─ owner reachable ─────────relay──▶ answered
        ├─ owner not reached ───▶ is it gone? `failure_detector`, some seconds at most
        │    ├─ gone, or the record released ──▶ restored here · another's by now: look again · 404 node_gone
        │    ├─ it lives ──▶ look again
        │    └─ not to be told ──▶ 503, never a claim
        ├─ no record ──▶ the node in the id ──relay──▶ answered · 404 with the reason
        └─ no Redis ───▶ the node in the id ──relay──▶ answered
                           └─ slow, not away: its record, waited for · 503, never 404
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.membership import MISSED_BEAT_SECONDS, Verdict
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer_forwarder import PeerForwarder, Search, say_broken, unreachable
from trio_mcp.cluster.record import Identity, Record, Tombstone
from trio_mcp.cluster.redis.link import RedisDown
from trio_mcp.cluster.relay.relay import Broken, Misdirected, Relay, Relayed, Unanswered
from trio_mcp.cluster.restore import Restorer
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import SessionNotFound
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import Claims, LifeCycle
from trio_mcp.transports.http import cluster_port as port
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList, send_empty

__all__ = ["SessionRouter", "no_directory"]

logger = logging.getLogger("trio_mcp.cluster")

LookUp: TypeAlias = Callable[[str], Awaitable[tuple[Record | None, Tombstone | None]]]

LOOKS = 4
"""How often one request looks for its session: each further look means that it moved in between."""

MOST_ASKED = 3
"""Heartbeat that are tried for a session which finds no room here."""

LEAVING_SECONDS = 1.5
"""For a session that leaves this node to be let go of; Redis takes a second at most."""

RELEASED_SECONDS = 0.3
"""The same for a session that this node closes at its end, which is near."""

_SESSION = b"mcp-session-id"
_ID = re.compile(r"[A-Za-z0-9-]{1,63}\.[A-Za-z0-9_-]{1,128}")
"""`node.random`, as the hub makes them."""


class SessionRouter:
    """Finds sessions that are not here. Implements the HTTP front's port."""

    def __init__(
        self,
        hub: Hub,
        directory: RedisDirectory,
        peers: Heartbeat,
        relay: Relay,
        referrer: PeerForwarder,
        restorer: Restorer,
        detector: FailureDetector,
        me: Identity,
        life: LifeCycle,
        metrics: Metrics,
        *,
        restore: bool,
    ) -> None:
        self._hub = hub
        self._directory = directory
        self._peers = peers
        self._relay = relay
        self._forwarder = referrer
        self._restorer = restorer
        self._detector = detector
        self._me = me
        self._metrics = metrics
        self._restore = restore
        self._life = life

    # What belongs to no session.

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer; False when this node should."""
        session_id = _session_id(exchange)
        if self._forwarder.origin(exchange, session_id) is not None:
            return False
        return await self._answered_by_any(exchange, session_id, self._peers.ready(session_id))

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room open a session that finds none here; False when no peer has, or a peer asked us."""
        session_id = _session_id(exchange)
        if self._forwarder.origin(exchange, session_id) is not None:
            return False
        return await self._answered_by_any(exchange, session_id, self._peers.with_room()[:MOST_ASKED])

    async def _answered_by_any(self, exchange: HttpExchange, session_id: str, peers: list[Owner]) -> bool:
        for peer in peers:
            outcome = await self._forwarder.send(exchange, session_id, peer)
            if isinstance(outcome, Relayed):
                return True
            if isinstance(outcome, Broken | Unanswered):
                await say_broken(exchange, [])
                return True
        return False

    # What belongs to one.

    async def route(self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList) -> port.Route:
        """Find a session that is not here.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """
        if not _ID.fullmatch(session_id):
            # None of ours, whatever is in it: nobody need be asked.
            raise SessionNotFound(CloseReason.UNKNOWN)
        stays = await self._let_go(session_id, who)
        if stays is not None:
            return port.Local(stays)
        search = Search(exchange, session_id, who, headers, self._forwarder.origin(exchange, session_id))
        if search.hop is None and await self._forwarder.answered_where_met(search):
            return port.Answered()
        with trio.move_on_at(search.since + MISSED_BEAT_SECONDS):
            await self._life.may_claim()
        for _ in range(LOOKS):
            seen = await self._seen(search)
            if seen is None:
                return port.Answered()
            record, stone = seen
            if record is None:
                await self._without_record(search, CloseReason.UNKNOWN if stone is None else stone.said_to(who))
                return port.Answered()
            if not record.may_be_of(who):
                raise SessionNotFound(CloseReason.UNKNOWN)
            try:
                found = await self._by_record(search, record)
            except RedisDown:
                raise no_directory() from None
            if found is not _LOOK_AGAIN:
                return port.Local(found) if isinstance(found, LiveSession) else port.Answered()
        raise port.Unavailable("moving", "The session is moving between nodes; try again")

    async def _let_go(self, session_id: str, who: Principal) -> LiveSession | None:
        """What this node itself can say of a session it had a moment ago, or has for somebody else.

        The session when it was to leave, and could not.
        """
        session = self._hub.local(session_id)
        if session is None or session.principal != who:
            # To another principal it is any unknown id, and takes as long to say so.
            return None
        if session.release_pending is not None:
            with trio.move_on_after(LEAVING_SECONDS):
                await session.release_pending.wait()
        elif session.closed_because is CloseReason.SHUTDOWN and self._restore:
            await self._released(session)
        elif session.closed_because is not None and not session.closed_because.goes_on:
            raise SessionNotFound(session.closed_because.as_seen_by_peers)
        return self._hub.get(session_id, who)

    async def _released(self, session: LiveSession) -> None:
        """Wait until Redis says that a session which this node closes at its end is anybody's; raises Unavailable when it is late."""
        with trio.move_on_after(RELEASED_SECONDS):
            while self._hub.local(session.id) is session:  # noqa: ASYNC110
                await trio.sleep(LOOK_AGAIN_SECONDS)
            return await self._directory.writer.flushed()
        raise _not_released_yet()

    async def _seen(self, search: Search) -> tuple[Record | None, Tombstone | None] | None:
        """What Redis has of the session, as soon as it says so; None when a peer that could do without has answered."""
        seen = await self._told(self._directory.look_up, search)
        if seen is None:
            if await self._answered_without_directory(search):
                return None
            if not self._directory.away:
                seen = await self._told(self._directory.look_up_patiently, search)
        if seen is None:
            raise no_directory() if search.hop is None else self._misdirected(None)
        return seen

    async def _told(self, look_up: LookUp, search: Search) -> tuple[Record | None, Tombstone | None] | None:
        """None when Redis cannot tell: it does not answer, or may not have been told all yet."""
        try:
            seen = await look_up(search.session_id)
        except RedisDown:
            return None
        if seen == (None, None):
            await self._peers.beat_ended()
            if self._peers.refilling:
                return None
        return seen

    async def _by_record(self, search: Search, record: Record) -> LiveSession | object | None:
        if record.boot == self._me.boot and not record.released:
            return await self._mine(search, record)
        if record.released or (record.node == self._me.node and self._peers.has_name):
            return await self._gone(search, record)
        if search.hop is not None:
            if await self._detector.look(record.owner, await self._relay.probe(record.url)) is Verdict.GONE:
                return await self._gone(search, record)
            raise self._misdirected(record.owner)
        self._directory.keep(search.session_id, record)
        outcome = await self._forwarder.answered(search, record.owner)
        if outcome is None:
            return None
        if isinstance(outcome, Broken) or (isinstance(outcome, Misdirected) and outcome.boot == record.boot):
            # It ends, or says that it has not what its record says it has: the record is about to change.
            await trio.sleep(LOOK_AGAIN_SECONDS)
            return _LOOK_AGAIN
        match await self._detector.wait(record.owner, outcome, search.since):
            case Verdict.GONE:
                return await self._gone(search, record)
            case Verdict.ALIVE:
                return _LOOK_AGAIN
        raise unreachable()

    async def _mine(self, search: Search, record: Record) -> LiveSession | object:
        """The record says that it is here. If not, it ended a moment ago, or we claimed it and never heard that we got it."""
        here = self._hub.get(search.session_id, search.who)
        if here is not None:
            # Another request took it up while this one looked.
            return here
        reason = await self._directory.memory.why_gone(search.session_id, search.who)
        if reason is CloseReason.UNKNOWN and record.restorable and self._life.answers.claims is Claims.NO_MORE:
            raise _not_released_yet()
        if reason is not CloseReason.UNKNOWN or not record.restorable or record.epoch == 0:
            raise SessionNotFound(reason)
        return await self._restorer.take_up(search.session_id, record, search.who) or _LOOK_AGAIN

    async def _gone(self, search: Search, record: Record) -> LiveSession | object | None:
        self._forwarder.owners.forget(search.session_id)
        if search.exchange.method == "DELETE" and record.readable:
            if not await self._directory.remove(search.session_id, record):
                return _LOOK_AGAIN
            await send_empty(search.exchange.send, 204, search.headers)
            return None
        if not (self._restore and record.restorable and record.readable):
            if record.readable and not record.restorable:
                self._directory.bury(search.session_id, record)
            raise SessionNotFound(CloseReason.NODE_GONE)
        if self._life.answers.claims is not Claims.YES:
            await self._hand_on(search)
            return None
        return await self._restorer.take_up(search.session_id, record, search.who) or _LOOK_AGAIN

    async def _hand_on(self, search: Search) -> None:
        """A node that stops, or has not joined yet, takes up nothing: the ready peer that all nodes would pick does."""
        if search.hop is not None:
            raise self._misdirected(None)
        for peer in self._peers.ready(search.session_id):
            if await self._forwarder.answered(search, peer) is None:
                return
        raise port.Unavailable("unreachable", "No node is ready to take up this session; try again")

    async def _without_record(self, search: Search, reason: CloseReason) -> None:
        """Redis knows of no session: the node in the id may know better, for it may still owe the record."""
        remembered = await self._directory.memory.why_gone(search.session_id, search.who)
        home = self._forwarder.home(search.session_id)
        if (
            reason is not CloseReason.UNKNOWN
            or remembered is not CloseReason.UNKNOWN
            or search.hop is not None
            or home is None
        ):
            raise SessionNotFound(remembered if remembered is not CloseReason.UNKNOWN else reason)
        outcome = await self._forwarder.answered(search, home)
        if outcome is None:
            return
        if isinstance(outcome, Misdirected) or self._peers.boot(home.node) is None:
            raise SessionNotFound(CloseReason.UNKNOWN)
        match await self._detector.wait(home, outcome, search.since):
            case Verdict.GONE:
                raise SessionNotFound(CloseReason.UNKNOWN)
            case Verdict.ALIVE if await self._forwarder.answered(search, home) is None:
                return
        raise port.Unavailable("unreachable", "The node that may have this session does not answer; try again")

    async def _answered_without_directory(self, search: Search) -> bool:
        """Whether a peer has answered that has the session, or the one that it named."""
        remembered = await self._directory.memory.why_gone(search.session_id, search.who)
        if remembered is not CloseReason.UNKNOWN:
            raise SessionNotFound(remembered)
        if search.hop is not None:
            met = self._forwarder.owners.get(search.session_id)
            if met is not None:
                raise self._misdirected(met)
            return False
        owner = self._forwarder.owners.get(search.session_id) or self._forwarder.home(search.session_id)
        if owner is None:
            return False
        outcome = await self._forwarder.answered(search, owner)
        if isinstance(outcome, Misdirected) and outcome.owner is not None:
            outcome = await self._forwarder.answered(search, outcome.owner)
        return outcome is None

    def _misdirected(self, owner: Owner | None) -> port.Misdirected:
        marker = f"{self._me.node}.{self._me.boot}".encode()
        self._metrics.misroute(CloseReason.ELSEWHERE, "421")
        return port.Misdirected([(b"trio-mcp-misdirected", marker)], msgspec.json.encode({"owner": owner}))


_LOOK_AGAIN = object()
"""The session moved while we looked."""

LOOK_AGAIN_SECONDS = 0.05


def _session_id(exchange: HttpExchange) -> str:
    return exchange.header(_SESSION) or ""


def no_directory() -> port.Unavailable:
    """503: Redis is away, and nobody else knew."""
    return port.Unavailable("directory_unavailable", "Where this session is cannot be told now; try again")


def _not_released_yet() -> port.Unavailable:
    """503 while this draining node still holds the session record: a 404 would make the client open a second session."""
    return port.Unavailable("moving", "The node of this session stops; try again")
