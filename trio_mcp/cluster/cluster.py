"""One node among several: what runs beside its sessions, and how it joins and leaves.

cluster ─┬─ writer        records and tombstones
         ├─ heartbeat     our card, the peers' cards
         ├─ checks        all records, when Redis may not have them as they are
         ├─ bus           sender · listener thread
         └─ relay         connections to peers
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.bus import ClusterBus
from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.joining import take_name
from trio_mcp.cluster.membership import superseded
from trio_mcp.cluster.moment import Moment
from trio_mcp.cluster.ownership_log import OwnershipLog
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer_forwarder import PeerForwarder
from trio_mcp.cluster.reconciler import Reconciler
from trio_mcp.cluster.record import Identity, NodeCard, OwnershipChange
from trio_mcp.cluster.restore import Restorer
from trio_mcp.cluster.router import SessionRouter
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import Store, StoreDown
from trio_mcp.defaults import CLUSTER_DRAIN_DELAY, DRAIN_TIMEOUT, KEEP_ALIVE
from trio_mcp.observability.logs import event
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.stop_times import CLUSTER_FLUSH_SECONDS
from trio_mcp.streams.bus import LocalBus
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.cluster_port import Route
from trio_mcp.transports.http.exchange import HeaderList, HttpExchange

__all__ = ["Cluster", "ClusterOptions"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

CATCH_UP_SECONDS = 1.0

REDATE_SECONDS = 24 * 3600.0
"""Records of living sessions are dated anew this often: far below their TTL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What all nodes share, and what this one is called."""

    secrets: Sequence[bytes]
    peer_url: str | None = None
    restore: bool = False
    require_redis: bool = False
    """The node is not ready before Redis has taken its card once."""
    keep_alive: float = KEEP_ALIVE
    """Seconds between the comments on a quiet stream: a peer whose stream is quiet for longer is gone."""
    drain_seconds: float = CLUSTER_DRAIN_DELAY + DRAIN_TIMEOUT
    """How long a node that stops may take: who starts under its name waits for it."""


class Cluster:
    """Joins an app's sessions, streams and bus with those of its peers."""

    def __init__(self, app: HttpApp, options: ClusterOptions, store: Store) -> None:
        self.options = options
        self._app = app
        self._me = Identity(app.hub.options.node_id, app.boot)
        metrics = app.service.metrics
        self._hops = hops = Hops(options.secrets, node=self._me.node, boot=self._me.boot)
        self._store = store
        measured = MeasuredStore(store, metrics)
        self.directory: RedisDirectory = RedisDirectory(
            measured, self._me, metrics, restorable=options.restore, lost=self._lost
        )
        self._heartbeat = Heartbeat(
            measured,
            self.directory,
            self._me,
            OwnershipLog(moved=self._moved, missed=self.directory.fall_behind),
            card=self._card,
            knows=hops.knows,
            answers=self._answers,
            doubled=self._be_doubled,
            refreshed=self._refreshed,
            overslept=self.catch_up,
        )
        self._relay = PeerClient(hops, node=self._me.node, silence=2 * options.keep_alive + 5)
        self._detector = FailureDetector(measured, self._me, self._heartbeat, self._relay)
        self._forwarder = PeerForwarder(
            self._relay, self._heartbeat, hops, metrics, own_node=self._me.node, peer_url=options.peer_url
        )
        self._router = SessionRouter(
            app.hub,
            self.directory,
            self._heartbeat,
            self._relay,
            self._forwarder,
            Restorer(app.hub, measured, self.directory, self._me, metrics),
            self._detector,
            self._me,
            app.life,
            metrics,
            restore=options.restore,
        )
        bus = app.service.bus
        assert isinstance(bus, LocalBus)
        self._bus = ClusterBus(
            bus,
            measured,
            self._me.boot,
            metrics,
            end=self._end,
            moved=self._moved,
            rejoined=self._rejoined,
        )
        self._redate_at = trio.current_time() + REDATE_SECONDS
        self._reconciler = Reconciler(self._check)
        self._catching_up: trio.Event | None = None
        self._candidate = ""
        self.doubled: trio.Event = trio.Event()
        """Set when an earlier process has our node id, and lives: this one has to go."""
        app.probes.prove = lambda challenge: hops.prove(challenge, self._candidate)
        app.hub.directory = self.directory
        app.endpoint.join(self)
        app.life.joins_first = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the cluster's tasks for the length of the block; at its end what is owed is written and our card taken down."""
        async with self._relay.running(), trio.open_nursery() as nursery:
            nursery.start_soon(self.directory.writer.write)
            nursery.start_soon(self._reconciler.work)
            await self._heartbeat.beat()
            nursery.start_soon(self._heartbeat.beat_on)
            nursery.start_soon(self._bus.listen)
            nursery.start_soon(self._bus.send)
            try:
                yield
            finally:
                self._bus.close()
                with trio.move_on_after(CLUSTER_FLUSH_SECONDS, shield=True):
                    await self._say_goodbye()
                nursery.cancel_scope.cancel("the node leaves the cluster")
                self._store.close()

    async def join(self, url: str) -> None:
        """The node serves: it is ready once its id is its own; show it to the others, at `url` when it was reached there.

        Raises NodeIdTaken.
        """
        self._candidate = url
        if self.options.require_redis:
            await self._heartbeat.answered.wait()
        await take_name(self._heartbeat, self._detector, self._relay, self._me, self.options.drain_seconds)
        self._heartbeat.joined = True
        if self._app.life.state is NodeState.JOINING:
            self._app.life.enter(NodeState.READY)
        self._bus.open()
        if url:
            await self._publish_url()
        self._heartbeat.beat_now()

    @property
    def has_ready_peer(self) -> bool:
        """Whether there is somebody to send clients to."""
        return bool(self._heartbeat.ready(""))

    @property
    def can_release(self) -> bool:
        """Whether there is somebody to take sessions, and Redis to tell it by."""
        return self.has_ready_peer and not self.directory.away

    @property
    def awaits_answers(self) -> bool:
        """Whether a request is with a peer whose response has not begun."""
        return self._relay.awaits_answers

    def relayed_stream_enders(self) -> list[Callable[[], None]]:
        """What ends the streams that this node relays, each at once and cleanly: their clients come back by another way."""
        return self._relay.stream_enders()

    def end_relays(self) -> None:
        """End all that this node relays: who cannot come back for it is told that it is lost."""
        self._relay.end_all()

    # The front's port.

    @property
    def overslept(self) -> bool:
        """Whether the last attempt to beat is too long ago."""
        return self._heartbeat.is_late

    async def catch_up(self) -> None:
        """Wait until all records are checked, `CATCH_UP_SECONDS` at most; whoever comes meanwhile waits for the same."""
        if self._catching_up is not None:
            return await self._catching_up.wait()
        self._catching_up = trio.Event()
        event(logger, logging.WARNING, "overslept", seconds=self._heartbeat.attempted.ago)
        try:
            with trio.move_on_after(CATCH_UP_SECONDS):
                # One that was under way may have passed by what another node took over only then.
                await self._reconciler.want().wait()
        finally:
            self._heartbeat.beat_now()
            self._heartbeat.attempted = Moment()
            self._catching_up.set()
            self._catching_up = None

    async def route(self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList) -> Route:
        """Find a session that is not on this node."""
        return await self._router.route(exchange, session_id, who, headers)

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room open the session."""
        return await self._router.open_at_peer(exchange)

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """While this node stops: have a peer answer what belongs to no session."""
        return await self._router.pass_on(exchange)

    # Leaving, in the order of a drain.

    def announce(self) -> None:
        """The node's state has changed: its peers hear of it now, not with the next beat."""
        self._heartbeat.beat_now()

    async def release(self, session: LiveSession) -> bool:
        """Let another node have the session; False, and all is as before, when Redis cannot be told."""
        session.release_pending = leaving = trio.Event()
        try:
            if not await self.directory.release(session.snapshot()):
                session.release_pending = None
                return False
            session.hand_off()
            return True
        finally:
            leaving.set()

    # What the parts call.

    def _card(self) -> NodeCard:
        state = self._app.life.answers.word
        hub = self._app.hub
        return NodeCard(self._me.boot, self._me.url, state, len(hub), self._me.started, self._hops.key, hub.room)

    async def _refreshed(self, fallen: bool) -> None:
        """Redis answered a beat."""
        if self._candidate and not self._me.url:
            await self._publish_url()
        due = trio.current_time() >= self._redate_at
        if fallen or due or self.directory.behind:
            self._redate_at = trio.current_time() + REDATE_SECONDS
            self._reconciler.want()

    async def _check(self) -> None:
        try:
            await self.directory.check(
                session.snapshot()
                for session in self._app.hub.sessions
                if session.closed_because is None and session.release_pending is None
            )
        except StoreDown:
            event(logger, logging.WARNING, "records unchecked", why="redis is away; checked when it is back")

    async def _publish_url(self) -> None:
        seen = await self._relay.probe(self._candidate)
        if seen == self._me.boot:
            self._me.url = self._candidate
            self._heartbeat.beat_now()
            self.directory.fall_behind()
        else:
            event(logger, logging.WARNING, "not reached at its own URL", url=self._candidate, flag="--advertise-url")

    def _lost(self, session_id: str) -> None:
        session = self._app.hub.local(session_id)
        if session is not None:
            session.close(CloseReason.MOVED)

    def _moved(self, move: OwnershipChange) -> None:
        self.directory.backups.moved(move)
        self._forwarder.owners.moved(move.session, move.epoch, ended=move.ended)
        session = self._app.hub.local(move.session)
        if session is not None and superseded(self._me.boot, session.streams.epoch, move):
            session.close(CloseReason.MOVED)

    def _rejoined(self) -> None:
        """Redis was away, if but for a moment: it may be another by now, or have lost what it heard last."""
        self.directory.fall_behind()
        self._heartbeat.beat_now()

    def _end(self, session_id: str) -> None:
        session = self._app.hub.local(session_id)
        if session is not None:
            session.close(CloseReason.DELETED)

    async def _answers(self, card: NodeCard) -> bool:
        if not card.boot or not card.url:
            return False
        return await self._relay.probe(card.url) == card.boot

    def _be_doubled(self) -> None:
        if not self.doubled.is_set():
            event(
                logger,
                logging.ERROR,
                "an earlier process has this node's id",
                advice="give every node a --node-id of its own",
            )
            self.doubled.set()

    async def _say_goodbye(self) -> None:
        await self.directory.writer.flushed()
        with suppress(StoreDown):
            await self._heartbeat.leave()
