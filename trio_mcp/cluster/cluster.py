"""One node of a cluster: its parts and how they are connected, their tasks, joining and leaving.

cluster ─┬─ writer        records and tombstones
         ├─ heartbeat     our card, the peers' cards
         ├─ reconciler    all records compared, when Redis may not have them as they should be
         ├─ bus           sender · listener thread
         └─ client        connections to peers
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio

from trio_mcp.cluster.bus import ClusterBus
from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.joining import take_node_id
from trio_mcp.cluster.local_copies import LocalCopies
from trio_mcp.cluster.ownership_log import OwnershipLog
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.relaying import Patience
from trio_mcp.cluster.peer_forwarder import PeerForwarder
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.reconciler import Reconciler
from trio_mcp.cluster.record import Identity, NodeCard
from trio_mcp.cluster.record_backups import RecordBackups
from trio_mcp.cluster.restore import Restorer
from trio_mcp.cluster.router import SessionRouter
from trio_mcp.cluster.siblings import Siblings
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import Store, StoreDown
from trio_mcp.cluster.tasks.owners import TaskOwners
from trio_mcp.cluster.tasks.store import ClusterTaskStore
from trio_mcp.defaults import CLUSTER_DRAIN_DELAY, DRAIN_TIMEOUT, KEEP_ALIVE, WRITE_TIMEOUT
from trio_mcp.protocol.errors import TooManySessions
from trio_mcp.sessions.directory import Snapshot
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import CLUSTER, Claims
from trio_mcp.sessions.stop_times import CLUSTER_FLUSH_SECONDS
from trio_mcp.streams.bus import LocalBus
from trio_mcp.tasks.extension import TASK_STORE
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.cluster_port import Route
from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["Cluster", "ClusterOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The settings of a node's cluster. All nodes share the `secrets`; the first one signs."""

    secrets: Sequence[bytes]
    peer_url: str | None = None
    restore: bool = False
    require_redis: bool = False
    """The node is not ready before Redis has accepted its card once."""
    keep_alive: float = KEEP_ALIVE
    """Seconds between the comments on a quiet stream: a peer whose stream is silent for far longer is taken to be gone."""
    write_timeout: float = WRITE_TIMEOUT
    """How long a peer may take no byte of a request that is relayed to it (seconds)."""
    drain_seconds: float = CLUSTER_DRAIN_DELAY + DRAIN_TIMEOUT
    """How long a node drains at most (seconds): a process that starts under its id waits for that."""

    local: bool = False
    """The nodes are the workers of one, and reach each other by Unix sockets: their URLs are `unix:/path`."""

    @property
    def patience(self) -> Patience:
        """How long a relayed request waits."""
        return Patience(body=2 * self.keep_alive + 5, write_timeout=self.write_timeout)


class Cluster:
    """Joins an app's sessions, streams and bus with those of its peers; see `HttpApp.join`."""

    def __init__(self, app: HttpApp, options: ClusterOptions, store: Store, siblings: Siblings | None = None) -> None:
        """`siblings`: this process is one worker of a node."""
        self.options: ClusterOptions = options
        self._app = app
        metrics = app.service.metrics
        self._store = MeasuredStore(store, metrics)
        # The other processes.
        siblings = Siblings(everyone=options.local) if siblings is None else siblings
        me = Identity(app.hub.options.node_id, app.boot)
        self._hops = Hops(options.secrets, node=me.node, boot=me.boot)
        self._peers = Peers(me, siblings, options.peer_url)
        self._client = PeerClient(self._hops, node=me.node, patience=options.patience, is_local=siblings.is_local)
        self._detector = FailureDetector(self._store, self._peers, self._client)
        # The sessions of this one, and their records.
        backups = RecordBackups()
        copies = LocalCopies(app.hub, backups, self._peers)
        self.directory: RedisDirectory = RedisDirectory(
            self._store, backups, me, metrics, restorable=options.restore, not_ours=copies.not_ours
        )
        self._reconciler = Reconciler(self._store, self.directory, self._living_sessions)
        self._router = SessionRouter(
            app.hub,
            app.life,
            self.directory,
            self._peers,
            PeerForwarder(self._client, self._peers, self._hops, metrics),
            self._detector,
            Restorer(app.hub, self._store, self.directory, metrics),
        )
        # What they tell each other through the store.
        log = OwnershipLog(changed=copies.changed, missed=self._store.trust.doubt_records)
        self._heartbeat = Heartbeat(self._store, self._peers, self._client, self._reconciler, log, self._card)
        assert isinstance(app.service.bus, LocalBus)
        self._bus = ClusterBus(
            app.service.bus,
            self._store,
            me.boot,
            metrics,
            end=copies.end,
            changed=copies.changed,
            rejoined=self._bus_rejoined,
            tasks=self._tasks_changed,
        )
        self._store_of_tasks: ClusterTaskStore | None = None
        app.service.extension_state[TASK_STORE] = self.open_tasks

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the cluster's tasks for the length of the block; at its end what is owed is written and our card taken down."""
        async with self._client.running(), trio.open_nursery() as nursery:
            nursery.start_soon(self.directory.writer.write)
            nursery.start_soon(self._reconciler.work)
            await self._heartbeat.beat()
            nursery.start_soon(self._heartbeat.work)
            nursery.start_soon(self._bus.listen)
            nursery.start_soon(self._bus.send)
            nursery.start_soon(self._bury)
            try:
                yield
            finally:
                self._bus.close()
                with trio.move_on_after(CLUSTER_FLUSH_SECONDS, shield=True):
                    await self._leave()
                nursery.cancel_scope.cancel("the node leaves the cluster")
                self._store.close()

    async def join(self, url: str) -> None:
        """Get the node's id, become ready, and show this node to the others at `url`, once it was reached there.

        Returns when the id is this process'. Raises NodeIdTaken.
        """
        if self.options.require_redis:
            await self._heartbeat.answered.wait()
        # What this process proves to itself, where the address of an earlier process under its id leads to it.
        self._heartbeat.candidate = url
        await take_node_id(
            self._peers.me,
            self._heartbeat,
            self._store.trust,
            self._detector,
            self._client,
            self.options.drain_seconds,
        )
        self._heartbeat.joined = True
        self._app.life.settled(CLUSTER)
        self._bus.open()
        await self._heartbeat.advertise(url)
        self._heartbeat.beat_now()

    @property
    def doubled(self) -> trio.Event:
        """Set when an earlier process has our node id, and lives: this one has to stop."""
        return self._heartbeat.doubled

    # What the HTTP front asks for.

    def prove(self, challenge: bytes) -> str:
        """The answer to a peer that wants to know whether this is a node of its cluster."""
        return self._hops.prove(challenge, self._heartbeat.candidate)

    async def answer_for(self, worker: str, challenge: bytes) -> bytes | None:
        """What that worker of this node answers to a peer's challenge; None where this process is to answer."""
        if worker == self._peers.me.node:
            return None
        siblings = self._peers.siblings
        meant = await siblings.awaited(worker)
        return None if meant is None else await self._client.answer_of(siblings.url_of(meant), challenge)

    @property
    def overslept(self) -> bool:
        """Whether this process stood still for so long that other nodes may have restored its sessions."""
        return self._heartbeat.is_late

    async def catch_up(self) -> None:
        """Wait until all records were compared with the sessions here, a second at most."""
        await self._heartbeat.catch_up()

    async def route(self, exchange: HttpExchange, session_id: str) -> Route:
        """Find a session that is not on this node, and have its node answer, or restore it here.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """
        with suppress(TooManySessions):
            return await self._router.route(exchange, session_id)
        # A peer that has room may have begun since the cards were read.
        await self._heartbeat.look(patiently=True)
        return await self._router.route(exchange, session_id)

    def told_address(self, exchange: HttpExchange, *, seen: str | None) -> str | None:
        """The client's address, as the peer tells it that has relayed the request: None where it does not, and `seen` where no peer has."""
        head, hop = exchange.head, exchange.head.hop
        if hop is None or self._hops.verify(hop, head.method, head.target, head.session_id or "") is None:
            return seen
        # That of the peer says nothing of the client, even where clients come through a proxy at the same address.
        return self._hops.client(head.client, hop)

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room answer an `initialize` that finds none here; False when no peer has."""
        if await self._router.open_at_peer(exchange):
            return True
        return await self._heartbeat.look() and await self._router.open_at_peer(exchange)

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer what belongs to no session; False when none does."""
        return await self._router.pass_on(exchange)

    def open_tasks(self, limits: TaskLimits, clock: Callable[[], int]) -> ClusterTaskStore:
        """The store of this node's tasks, for a server that has any. `clock` is in ms of the wall clock."""
        self._store_of_tasks = ClusterTaskStore(
            self._store,
            TaskOwners(self._detector, self._peers),
            self._app.service.keyring,
            may_run=lambda: self._app.life.answers.claims is Claims.YES,
            limits=limits,
            clock=clock,
        )
        return self._store_of_tasks

    # What a drain asks for, in its order.

    def announce(self) -> None:
        """Tell the other nodes of this node's state now, not with the next beat."""
        self._heartbeat.beat_now()

    @property
    def has_ready_peer(self) -> bool:
        """Whether there is a node to send clients to."""
        return bool(self._peers.membership.ready(""))

    def ready_urls(self) -> list[str]:
        """Where the nodes are that may be sent clients."""
        return [owner.url for owner in self._peers.membership.ready("")]

    def elsewhere(self, session_id: str) -> str | None:
        """The address of the worker of this node that is known to have that session now; None where it is not another, or has to be found."""
        return None if self._app.hub.local(session_id) is not None else self._peers.worker_with(session_id)

    @property
    def can_release(self) -> bool:
        """Whether another node could restore a session that is released now, and Redis answers."""
        return self.has_ready_peer and not self._store.down

    async def release(self, session: LiveSession) -> bool:
        """Let another node restore the session; False when Redis did not confirm it, and then the session stays here."""
        session.release_pending = pending = trio.Event()
        try:
            if not await self.directory.release(session.snapshot()):
                session.release_pending = None
                return False
            session.hand_off()
            return True
        finally:
            pending.set()

    @property
    def awaits_answers(self) -> bool:
        """Whether a request is with a peer whose response has not begun."""
        return self._client.awaits_answers

    def relayed_stream_enders(self) -> list[Callable[[], None]]:
        """What ends the streams that this node relays, each at once and cleanly: their clients come back by another way."""
        return self._client.stream_enders()

    def end_relays(self) -> None:
        """End everything that this node relays: clients that cannot come back for the rest are told that it is lost."""
        self._client.end_all()

    # What the parts call.

    def _card(self) -> NodeCard:
        label, hub, me = self._app.life.answers.label, self._app.hub, self._peers.me
        return NodeCard(me.boot, me.url, label, len(hub), me.started, self._hops.key, hub.room)

    def _living_sessions(self) -> Iterator[Snapshot]:
        return (
            session.snapshot()
            for session in self._app.hub.sessions
            if session.closed_because is None and session.release_pending is None
        )

    def _tasks_changed(self, changed: Sequence[str], left: Sequence[str]) -> None:
        if self._store_of_tasks is not None:
            self._store_of_tasks.hear(changed, left)

    def _bus_rejoined(self) -> None:
        """The subscription was broken: Redis may have been replaced, or have lost the last writes."""
        self._store.trust.doubt_records()
        self._heartbeat.beat_now()

    async def _bury(self) -> None:
        """Take down the cards of workers of this node that have ended without doing so, so that other nodes need not wait for evidence."""
        buried: set[str] = set()
        while True:
            siblings = self._peers.siblings
            changed, ended = siblings.changed, siblings.ended
            for each in ended:
                if each.boot not in buried:
                    with suppress(StoreDown):
                        await self._heartbeat.take_down(each.name, each.boot)
            buried = {each.boot for each in ended}
            await changed.wait()

    async def _leave(self) -> None:
        await self.directory.writer.flushed()
        with suppress(StoreDown):
            await self._heartbeat.leave()
