"""What makes a served node one worker of several: its link to the supervisor, its sockets, its part of the store.

supervisor ◀── channel ──▶ Seat ─┬─ Stop, Retire ─▶ the node drains
                                 ├─ Ask ──────────▶ metrics, sessions of this worker
                                 ├─ Run, Heard ───▶ `LinkedStore`, and with it the cluster of the workers
                                 └─ Alive, from the event loop
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Protocol

import msgspec
import trio

from trio_mcp.cluster.cluster import Cluster, ClusterOptions
from trio_mcp.cluster.siblings import Siblings, url_of_worker
from trio_mcp.cluster.store.linked import LinkedStore
from trio_mcp.protocol.errors import TooManySessions
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.serving.admin import sessions_of
from trio_mcp.serving.cannot_listen import cannot_listen
from trio_mcp.serving.composition import build_cluster
from trio_mcp.serving.front import advertised_url, listen
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.workers.channel import Channel, ChannelBroken
from trio_mcp.serving.workers.deaf import clock_started_when_told
from trio_mcp.serving.workers.messages import (
    LAST_PAGE,
    Alive,
    AllIdle,
    Ask,
    Done,
    FromSupervisor,
    FromWorker,
    Heard,
    Held,
    Here,
    Hold,
    Idle,
    LetGo,
    Ready,
    Retire,
    Run,
    Setup,
    Stop,
    Subscribe,
    Team,
    Told,
    Topic,
)
from trio_mcp.serving.workers.moves import Moves
from trio_mcp.serving.workers.restarts import ALIVE_SECONDS
from trio_mcp.sessions.shares import Share
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Listener
from trio_mcp.transports.listener.server import HAS_EPOLL

__all__ = ["Seat", "Stoppable"]


LAST_WORDS_SECONDS = 0.5
"""For the last message to reach the supervisor."""
COUNT_SECONDS = 1.5
"""For the supervisor to count a session; as long as for its store to answer."""


class Stoppable(Protocol):
    """The node, as the supervisor's messages reach it."""

    def start_clock(self) -> None:
        """The node is to stop, and a message says how: end the process when the time for that is over, whether it is read or not."""

    def stop_on_signal(self, number: int) -> None:
        """The whole node stops, because of that signal: drain, and leave to other nodes what they take over."""

    def stop_alone(self, number: int) -> None:
        """The whole node stops: drain as one without peers, because of that signal."""

    def retire(self) -> None:
        """Drain: another worker has taken this one's place."""


class Seat:
    """A worker's end of the channel; `setup` is the first message. `connected` is its socket, which it owns."""

    def __init__(self, setup: Setup, connected: socket.socket) -> None:
        self._setup = setup
        self._channel: Channel[FromSupervisor, FromWorker] = Channel(connected, FromSupervisor)
        self._numbers = count()
        self._requests: dict[int, trio.MemorySendChannel[Any]] = {}
        self._hear: Callable[[bytes], None] | None = None
        self._app: HttpApp | None = None
        self._public: list[WhileServing] = []
        self._node_stops = False
        """With all of its workers: they end together."""
        self._said_idle = False
        self._all_idle = False
        self._siblings: Siblings | None = None
        """With Redis, the other workers; without, the cluster has no others."""
        self.url: str = ""
        """Where the other workers reach this one: `unix:/folder/boot.http`."""
        self.moves: Moves | None = None
        """Takes connections to other workers; None before `cluster`, and where they cannot move: behind Hypercorn, and without epoll."""

    def cluster(self, app: HttpApp, settings: Settings) -> Cluster:
        """Join `app` with those of the other workers, and with Redis with those of other nodes."""
        self._app = app
        cluster = self._over_redis(app, settings) or self._over_memory(app, settings)
        self.url = f"unix:{os.path.join(self._setup.folder, f'{app.boot}.http')}"
        app.hub.shares.counts = self
        if settings.server == "own" and HAS_EPOLL:
            ready = cluster.ready_urls if self._siblings is None else self._siblings.ready_urls
            self.moves = Moves(self.url, ready, cluster.elsewhere, app.service.metrics.moved)
        return cluster

    def _over_redis(self, app: HttpApp, settings: Settings) -> Cluster | None:
        siblings = Siblings(self._setup.name)
        cluster = build_cluster(app, settings, siblings)
        if cluster is not None:
            self._siblings = siblings
        return cluster

    def _over_memory(self, app: HttpApp, settings: Settings) -> Cluster:
        options = ClusterOptions(
            secrets=settings.keys,
            restore=settings.restore,
            keep_alive=settings.keepalive,
            write_timeout=app.service.options.write_timeout,
            drain_seconds=settings.drain_delay_seconds + settings.task_drain_seconds,
            local=True,
        )
        cluster = Cluster(app, options, LinkedStore(self))
        app.join(cluster, cluster.directory, cluster.prove)
        return cluster

    async def peer_url(self, settings: Settings, urls: Sequence[str]) -> str:
        """Where peers reach this worker, which listens: by its own socket, or with Redis at its node's URL."""
        if self._siblings is None or self._app is None:
            return self.url
        self._channel.send(Here(self._app.boot, self.url))
        return url_of_worker(await advertised_url(settings, urls), self._setup.name)

    async def listeners(self) -> tuple[list[Listener], list[trio.SocketListener], list[Listener]]:
        """What this worker accepts clients from, the sockets of the node behind it, and what it accepts other workers from."""
        inherited = [socket.socket(fileno=number) for number in self._setup.listeners]
        for each in inherited:
            # What user code starts must not hold the sockets open.
            each.set_inheritable(False)
        shared = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in inherited]
        self._public = [WhileServing(each) for each in shared]
        if self._setup.leads:
            self._begin()
        return [*self._public], shared, [*await listen([self.url])]

    @asynccontextmanager
    async def running(self, node: Stoppable) -> AsyncIterator[None]:
        """Talk to the supervisor for the length of the block. When the supervisor has gone, the node stops. Raises CannotListen."""
        try:
            with clock_started_when_told(node.start_clock):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._channel.write)
                    nursery.start_soon(self._listen, node)
                    nursery.start_soon(self._stop_when_broken, node)
                    nursery.start_soon(self._beat)
                    await self._start_moves(nursery)
                    try:
                        yield
                    finally:
                        with trio.move_on_after(LAST_WORDS_SECONDS, shield=True):
                            self._channel.send(Told(LAST_PAGE, self._answer("metrics")))
                            await self._channel.sent()
                        nursery.cancel_scope.cancel("the worker ends")
        finally:
            self._channel.close()
            with suppress(OSError):
                os.unlink(self.url.removeprefix("unix:"))

    async def _start_moves(self, nursery: trio.Nursery) -> None:
        if self.moves is not None:
            try:
                await nursery.start(self.moves.run)
            except OSError as error:
                raise cannot_listen(self.url, error) from error

    def say_ready(self, banner: str, fields: dict[str, str]) -> None:
        """The worker serves; see `Ready`."""
        self._channel.send(Ready(banner, fields))
        self._begin()

    def _begin(self) -> None:
        for listener in self._public:
            listener.begin()

    def leave_clients(self) -> None:
        """Leave new connections to the other workers, and hand over those that are here, each when no request of it runs."""
        if self._app is not None:
            self._app.probes.replaced = True
        for listener in self._public:
            listener.leave()
        if self.moves is not None:
            self.moves.departing.set()

    def may_end(self, left: bool) -> bool:
        """See `MayEnd`. When the node stops, its workers end when none has anything left: until then each serves what comes."""
        if not self._node_stops or self._channel.broken.is_set():
            return not left
        self._say_idle(not left)
        return self._all_idle and not left

    def drained(self) -> None:
        """The drain is over: should the node stop from now on, the other workers need not wait until this one has ended."""
        self._say_idle(True)

    def _say_idle(self, idle: bool) -> None:
        if self._said_idle is not idle:
            self._said_idle = idle
            self._channel.send(Idle(idle))

    # The link to the store.

    async def request(self, operations: bytes) -> bytes:
        """See `Link.request`."""
        results = await self._answer_to(Run(next(self._numbers), operations))
        assert isinstance(results, bytes)
        return results

    async def _answer_to(self, message: Run | Hold) -> object:
        """What the supervisor answers. Raises ChannelBroken, and OSError for a message that is too long."""
        if self._channel.broken.is_set():
            raise ChannelBroken(self._channel.why_broken)
        if not self._channel.send(message):
            raise OSError("the operations are longer than a message to the supervisor may be")
        number = message.number
        assert number is not None
        put, answer = trio.open_memory_channel[object](1)
        self._requests[number] = put
        try:
            with answer:
                return await answer.receive()
        except trio.EndOfChannel:
            raise ChannelBroken(self._channel.why_broken) from None
        finally:
            self._requests.pop(number, None)

    async def subscribe(self, hear: Callable[[bytes], None]) -> None:
        """See `Link.subscribe`."""
        self._hear = hear
        self._channel.send(Subscribe())
        # A request behind it has its results once the subscription has begun.
        await self.request(_NOTHING)

    # How many sessions one caller has in the node: see `Counts`.

    async def take(self, session_id: str, shares: Sequence[Share]) -> str:
        """See `Counts.take`."""
        with trio.move_on_after(COUNT_SECONDS), suppress(OSError):
            return str(await self._answer_to(Hold(next(self._numbers), session_id, list(shares))))
        raise TooManySessions("The sessions of the node cannot be counted now: try again")

    def note(self, session_id: str, shares: Sequence[Share]) -> None:
        """See `Counts.note`."""
        self._channel.send(Hold(None, session_id, list(shares)))

    def give_back(self, session_id: str) -> None:
        """See `Counts.give_back`."""
        self._channel.send(LetGo(session_id))

    async def settled(self) -> None:
        """See `Counts.settled`: the supervisor does what it is told in order."""
        with trio.move_on_after(COUNT_SECONDS), suppress(OSError):
            await self.request(_NOTHING)

    # The channel.

    async def _listen(self, node: Stoppable) -> None:
        with suppress(ChannelBroken):
            while True:
                self._take(await self._channel.receive(), node)

    async def _stop_when_broken(self, node: Stoppable) -> None:
        """The supervisor has ended, or does not listen: nobody could stop this node any more."""
        await self._channel.broken.wait()
        for put in self._requests.values():
            put.close()
        self._stop(node, signal.SIGTERM)

    def _stop(self, node: Stoppable, number: int) -> None:
        if self._siblings is None:
            return node.stop_alone(number)
        # Other nodes take over what this one has.
        self._siblings.node_stops = True
        node.stop_on_signal(number)

    def _take(self, message: FromSupervisor, node: Stoppable) -> None:
        match message:
            case Done(number, answer) | Held(number, answer):
                put = self._requests.pop(number, None)
                if put is not None:
                    put.send_nowait(answer)
            case Heard(published):
                if self._hear is not None:
                    self._hear(published)
            case Ask():
                self._channel.send(Told(message.number, self._answer(message.topic)))
            case Stop(number):
                self._node_stops = True
                self._stop(node, number)
            case AllIdle():
                self._all_idle = True
            case Team(workers, ended) if self._siblings is not None and self._app is not None:
                self._siblings.heard([each for each in workers if each.boot != self._app.boot], ended)
            case Retire():
                self.leave_clients()
                node.retire()

    def _answer(self, topic: Topic) -> bytes:
        assert self._app is not None
        return self._app.service.metrics.render()[0] if topic == "metrics" else encode(sessions_of(self._app))

    async def _beat(self) -> None:
        """Tell the supervisor that the event loop runs."""
        while True:
            self._channel.send(Alive() if self._app is None else Alive(self._app.life.missing))
            await trio.sleep(ALIVE_SECONDS)


_NOTHING = msgspec.msgpack.encode([])


class WhileServing(trio.abc.Listener[trio.SocketStream]):
    """Accepts from a socket that other processes accept from, too, from `begin` until this one leaves it to them."""

    def __init__(self, shared: trio.SocketListener) -> None:
        self._shared = shared
        self._begun = trio.Event()
        self._left = False
        self._accepting: trio.CancelScope | None = None

    async def accept(self) -> trio.SocketStream:
        """The next connection; none before `begin`, and none any more after `leave`."""
        if not self._left:
            with trio.CancelScope() as self._accepting:
                if not self._begun.is_set():
                    await self._begun.wait()
                return await self._shared.accept()
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    def begin(self) -> None:
        """Accept from now on."""
        self._begun.set()

    def leave(self) -> None:
        """Accept no more. What waits to be accepted, another process accepts."""
        self._left = True
        if self._accepting is not None:
            self._accepting.cancel("this worker accepts no more")

    async def aclose(self) -> None:
        """Close this process' descriptor; the socket stays open in the others."""
        await self._shared.aclose()
