"""Takes a request to its session, wherever that is: does the steps that `routing` decides, and learns from each.

request ─▶ facts ─▶ `routing.decide` ─▶ step ─▶ done here ─▶ answered, or a session of this node
             ▲                                    │
             └──────────── more is known ─────────┘
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
import trio

from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.facts import Cached, Copy, Ended, Facts, Recorded, Target, Tried, copy_here
from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.membership import MISSED_BEAT_SECONDS, Verdict
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.outcomes import Broken, Misdirected, Relayed, Unanswered
from trio_mcp.cluster.peer_forwarder import PeerForwarder, SessionRequest, say_lost, unavailable
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.restore import Restorer
from trio_mcp.cluster.routing import (
    Await,
    Full,
    Judge,
    LookUp,
    MoveTo,
    NotFound,
    RelayTo,
    Remove,
    Restore,
    SendBack,
    Serve,
    Step,
    TryAgain,
    decide,
)
from trio_mcp.cluster.store.port import StoreDown
from trio_mcp.protocol.errors import SessionNotFound, TooManySessions
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import LifeCycle
from trio_mcp.sessions.stop_times import CLOSING_RELEASE_SECONDS, RELEASE_SECONDS
from trio_mcp.transports.http import cluster_port as port
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import send_empty

__all__ = ["SessionRouter"]

MOST_ASKED = 3
"""Peers that are asked to open or restore a session for which this node has no room."""

PAUSE_SECONDS = 0.05
"""Before the record is read again that is about to change."""

_SESSION = b"mcp-session-id"
_NONE_NEAR: frozenset[Target] = frozenset()
_ID = re.compile(r"[A-Za-z0-9-]{1,63}\.[A-Za-z0-9_-]{1,128}")
"""`node.random`, as the hub makes them."""


class SessionRouter:
    """Does what `routing` decides: reads the record, relays, restores, answers."""

    def __init__(
        self,
        hub: Hub,
        life: LifeCycle,
        directory: RedisDirectory,
        peers: Peers,
        forwarder: PeerForwarder,
        detector: FailureDetector,
        restorer: Restorer,
    ) -> None:
        self._hub = hub
        self._life = life
        self._directory = directory
        self._peers = peers
        self._forwarder = forwarder
        self._detector = detector
        self._restorer = restorer

    # Requests that belong to no session.

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer; False when this node should."""
        session_id = _session_id(exchange)
        if self._forwarder.origin(exchange, session_id) is not None:
            return False
        return await self._answered_by_any(exchange, session_id, self._peers.membership.ready(session_id))

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room open a session that finds none here; False when no peer has.

        Where a peer asked us, only a worker of this node is asked, and none where that peer is one.
        """
        session_id = _session_id(exchange)
        peers = self._peers.with_room(self._forwarder.origin(exchange, session_id))
        return await self._answered_by_any(exchange, session_id, peers[:MOST_ASKED])

    async def _answered_by_any(self, exchange: HttpExchange, session_id: str, peers: list[Owner]) -> bool:
        for peer in peers:
            outcome = await self._forwarder.send(exchange, session_id, peer)
            if isinstance(outcome, Relayed):
                return True
            if isinstance(outcome, Broken | Unanswered):
                await say_lost(exchange)
                return True
        return False

    # Requests of a session.

    async def route(self, exchange: HttpExchange, session_id: str) -> port.Route:
        """Find a session that was not found on this node, and have its node answer, or restore it here.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """
        if not _ID.fullmatch(session_id):
            # No node makes such an id, so that none has to be asked.
            raise SessionNotFound(CloseReason.UNKNOWN)
        hop = self._forwarder.origin(exchange, session_id)
        facts = Facts(
            hop=hop is not None,
            delete=exchange.method == "DELETE",
            movable=exchange.carrier.may_move and not (hop is not None and self._peers.siblings.is_worker(hop)),
            restores=self._directory.restorable,
        )
        request = SessionRequest(exchange, session_id, hop, facts)
        self._heed_worker(request)
        session = self._hub.local(session_id)
        if session is not None and session.principal == exchange.principal:
            # To any other principal it is an unknown id, and takes as long to say so.
            pending = session.release_pending is not None
            facts.copy = copy_here(session.closed_because, release_pending=pending, restores=self._directory.restorable)
        # Where the id says that it began matters only once an owner that is known was asked, or the record was read.
        self._look_at_owner(request)
        while True:
            facts.claims = self._life.answers.claims
            route = await self._do(request, decide(facts))
            if route is not None:
                return route

    async def _do(self, request: SessionRequest, step: Step) -> port.Route | None:
        """The route, when this step ended the search for it; None when more is known now, and the next step is to be decided."""
        match step:
            case Serve():
                return self._here(request)
            case NotFound(reason, bury):
                if bury and request.record is not None:
                    self._directory.bury(request.session_id, request.record)
                raise SessionNotFound(reason)
            case SendBack(target):
                raise self._misdirected(None if target is None else self._owner(request, target))
            case TryAgain():
                raise unavailable(step)
            case Await():
                await self._await(request, step)
            case LookUp(patiently, after_pause):
                await self._look_up(request, patiently=patiently, after_pause=after_pause)
            case RelayTo(target):
                return await self._relay_to(request, target)
            case MoveTo(target):
                return self._move_to(request, target)
            case Judge(target, at_once):
                await self._judge(request, target, at_once=at_once)
            case Restore():
                return await self._restore(request)
            case Full():
                raise TooManySessions("No node that is ready has room for this session; try again")
            case Remove():
                return await self._remove(request)
        return None

    def _here(self, request: SessionRequest) -> port.Route | None:
        session = self._hub.get(request.session_id, request.exchange.principal)
        request.facts.copy = Copy.NONE
        return None if session is None else port.Local(session)

    async def _await(self, request: SessionRequest, what: Await) -> None:
        facts = request.facts
        session = self._hub.local(request.session_id)
        match what:
            case Await.JOIN:
                with trio.move_on_at(request.since + MISSED_BEAT_SECONDS):
                    await self._life.may_claim()
                facts.join_awaited = True
                return
            case Await.RELEASE if session is not None and session.release_pending is not None:
                with trio.move_on_after(RELEASE_SECONDS):
                    await session.release_pending.wait()
            case Await.RECORD if session is not None:
                try:
                    await self._released(session)
                except trio.TooSlowError:
                    facts.copy = Copy.NOT_RELEASED
                    return
        self._look_here(request)

    async def _released(self, session: LiveSession) -> None:
        """Wait until the release of a session that was closed because this node stops is written to Redis.

        Raises trio.TooSlowError after `CLOSING_RELEASE_SECONDS`.
        """
        with trio.fail_after(CLOSING_RELEASE_SECONDS):
            while self._hub.local(session.id) is session:  # noqa: ASYNC110
                await trio.sleep(PAUSE_SECONDS)
            await self._directory.writer.flushed()

    async def _look_up(self, request: SessionRequest, *, patiently: bool, after_pause: bool) -> None:
        facts = request.facts
        if after_pause:
            await trio.sleep(PAUSE_SECONDS)
        if not patiently:
            facts.looks += 1
        facts.read(await self._recorded(request, patiently=patiently), patiently=patiently)
        facts.redis_away = self._directory.away
        facts.remembered = await self._directory.memory.why_gone(request.session_id, request.exchange.principal)
        self._look_at_peers(request)
        # Another request may have restored it meanwhile.
        self._look_here(request)
        if facts.recorded is Recorded.FREE:
            self._peers.owners.forget(request.session_id)

    async def _recorded(self, request: SessionRequest, *, patiently: bool) -> Recorded | CloseReason:
        try:
            found = await self._directory.look_up(request.session_id, patiently=patiently)
        except StoreDown:
            return Recorded.UNKNOWN
        request.record = None
        if isinstance(found, Record):
            request.record, facts = found, request.facts
            facts.readable, facts.restorable, facts.first_life = found.readable, found.restorable, found.epoch == 0
        return self._directory.whose(found, request.exchange.principal)

    def _look_here(self, request: SessionRequest) -> None:
        live = self._hub.get(request.session_id, request.exchange.principal) is not None
        request.facts.copy = Copy.LIVE if live else Copy.NONE

    def _look_at_owner(self, request: SessionRequest) -> None:
        facts = request.facts
        owner = self._peers.owners.get(request.session_id)
        if owner is None:
            facts.cached = Cached.NOTHING
        else:
            facts.cached = Cached.DRAINING if self._peers.membership.is_stopping(owner.node) else Cached.OWNER
        facts.near = self._near(request, (Target.CACHED,))

    def _look_at_peers(self, request: SessionRequest) -> None:
        self._look_at_owner(request)
        facts = request.facts
        facts.near = self._near(request, Target)
        home = self._peers.home(request.session_id)
        facts.home = home is not None
        facts.home_has_card = home is not None and self._peers.membership.boot(home.node) is not None

    def _near(self, request: SessionRequest, targets: Iterable[Target]) -> frozenset[Target]:
        """Which of them are workers of this node: what one of them has relayed goes no further."""
        siblings = self._peers.siblings
        if not siblings or (request.hop is not None and siblings.is_worker(request.hop)):
            return _NONE_NEAR
        owners = ((target, self._owner(request, target)) for target in targets)
        return frozenset(target for target, owner in owners if owner is not None and siblings.has(owner))

    def _heed_worker(self, request: SessionRequest) -> None:
        """A peer says which worker it means: that one is asked first."""
        worker = request.exchange.head.worker
        if request.hop is not None and worker:
            meant = self._peers.siblings.named(worker.decode("latin-1"))
            if meant is not None:
                self._peers.owners.remember(request.session_id, meant)

    def _owner(self, request: SessionRequest, target: Target) -> Owner | None:
        match target:
            case Target.CACHED:
                return self._peers.owners.get(request.session_id)
            case Target.HOME:
                return self._peers.home(request.session_id)
            case Target.RECORDED:
                return None if request.record is None else request.record.owner
            case Target.NAMED:
                return request.outcome.owner if isinstance(request.outcome, Misdirected) else None
        return None

    async def _relay_to(self, request: SessionRequest, target: Target) -> port.Route | None:
        if target is Target.READY:
            return await self._relay_to_any(request, self._peers.membership.ready(request.session_id))
        if target is Target.ROOMY:
            return await self._relay_to_any(request, self._peers.with_room(request.hop)[:MOST_ASKED])
        owner = self._owner(request, target)
        if target is Target.RECORDED and request.record is not None:
            # The owner may be gone: if Redis loses its data now, there is no other copy of the record.
            self._directory.keep(request.session_id, request.record)
        result = Tried.FAILED if owner is None else await self._forwarder.relay(request, owner)
        if isinstance(result, Ended):
            return port.Answered()
        named = (
            target is not Target.NAMED
            and isinstance(request.outcome, Misdirected)
            and request.outcome.owner is not None
        )
        request.facts.relayed(result, named=named)
        self._look_at_peers(request)
        return None

    def _move_to(self, request: SessionRequest, target: Target) -> port.Route | None:
        owner = self._owner(request, target)
        url = "" if owner is None else self._peers.siblings.url_of(owner)
        if owner is not None and url and request.exchange.carrier.move(request.exchange.content, url):
            if not request.facts.delete:
                self._peers.owners.remember(request.session_id, owner)
            return port.Answered()
        request.facts.movable = False
        return None

    async def _relay_to_any(self, request: SessionRequest, peers: Sequence[Owner]) -> port.Route | None:
        for peer in peers:
            if isinstance(await self._forwarder.relay(request, peer), Ended):
                return port.Answered()
        request.facts.none_ready = True
        return None

    async def _judge(self, request: SessionRequest, target: Target, *, at_once: bool) -> None:
        owner = self._owner(request, target)
        if owner is None:
            request.facts.verdict = Verdict.UNKNOWN
        elif at_once or request.outcome is None:
            request.facts.verdict = await self._detector.look(owner)
        else:
            request.facts.verdict = await self._detector.wait(owner, request.outcome, request.since)
        if request.facts.verdict is Verdict.GONE:
            self._peers.owners.forget(request.session_id)

    async def _restore(self, request: SessionRequest) -> port.Route | None:
        assert request.record is not None
        try:
            session = await self._restorer.restore(request.session_id, request.record, request.exchange.principal)
        except StoreDown:
            request.facts.recorded = Recorded.REFUSED
            return None
        except TooManySessions:
            request.facts.full = True
            return None
        request.facts.recorded = Recorded.NOT_READ
        return None if session is None else port.Local(session)

    async def _remove(self, request: SessionRequest) -> port.Route | None:
        assert request.record is not None
        try:
            removed = await self._directory.remove(request.session_id, request.record)
        except StoreDown:
            request.facts.recorded = Recorded.REFUSED
            return None
        request.facts.recorded = Recorded.NOT_READ
        if not removed:
            return None
        await send_empty(request.exchange.carrier.send, 204, request.exchange.cors)
        return port.Answered()

    def _misdirected(self, owner: Owner | None) -> port.Misdirected:
        me = self._peers.me
        marker = f"{me.node}.{me.boot}".encode()
        return port.Misdirected([(b"trio-mcp-misdirected", marker)], msgspec.json.encode({"owner": owner}))


def _session_id(exchange: HttpExchange) -> str:
    return exchange.header(_SESSION) or ""
