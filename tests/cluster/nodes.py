"""A cluster within one test: whole nodes on ports of loopback, over one real Redis; each may die, be deaf, or lose Redis.

client ──in memory──▶ node1 ──our relay, real sockets──▶ node2 on our listener
                        └──proxy──▶ redis-server
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.cluster.in_memory import MemoryLine, MemoryRedis, network
from tests.cluster.leaping import LeapingClock
from tests.cluster.parts import KEYS, waiting_long
from tests.cluster.peers import listening
from tests.cluster.tcp_proxy import TcpProxy, tcp_proxy
from tests.oracle import Oracle
from tests.rig.redis import RedisServer, redis_server
from tests.transports.http.harness import LEGACY, Headers, SessionClient, Wire
from trio_mcp import Context, MCPServer
from trio_mcp.cluster.cluster import Cluster, ClusterOptions
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.membership import Membership
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.store.port import OpenRecord, Operation, Publish, PutBackRecord, ReadRecord, ReadTombstone
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.dispatch.session import Session
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.testing.asgi import AsgiClient, asgi_client
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import serve

__all__ = ["SECRET", "Activity", "InProcessCluster", "Node", "at", "demo", "hops_of", "in_process_cluster", "stranger"]

SECRET = b"of all nodes"
PATIENCE = 120.0
"""Nothing here waits so long unless it is broken."""


def hops_of(node: str, secret: bytes = SECRET) -> Hops:
    """What signs for a node."""
    return Hops([secret], node=node, boot="0123456789abcdef")


@dataclass
class Activity:
    """What happened on one node, in order."""

    ran: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    working: trio.Event = field(default_factory=trio.Event)
    go: trio.Event = field(default_factory=trio.Event)


def demo(name: str, activity: Activity) -> MCPServer:
    """`where` tells the node; `work` waits until the test says `go`; `ask` asks the client."""
    mcp = MCPServer("demo")

    @mcp.tool
    async def where() -> str:
        activity.ran.append("where")
        return name

    @mcp.tool
    async def work() -> str:
        activity.ran.append("work")
        activity.working.set()
        await activity.go.wait()
        return name

    @mcp.tool
    async def ask(ctx: Context) -> str:
        activity.working.set()
        answer = await ctx.elicit("Well?", {"type": "object", "properties": {}})
        return str(answer.action)

    @mcp.resource("demo://{city}")
    async def weather(city: str) -> str:
        return city

    @mcp.on_session
    async def begun(session: Session) -> None:
        activity.news.append("restored session" if session.restored else "session")

    @mcp.on_restore
    async def restored(session: Session) -> None:
        activity.news.append("on_restore")

    return mcp


class Node:
    """One of them."""

    def __init__(
        self,
        name: str,
        line: TcpProxy | MemoryLine,
        build: Callable[[str, Activity], MCPServer],
        app: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self.name = name
        self.proxy = line
        self.activity = Activity()
        self.url = ""
        self.deaf = False
        """It takes connections, and answers nothing."""
        self.joins = True
        """It shows itself to the others once it serves."""
        self.heard: list[Scope] = []
        """What came through its listener to the endpoint."""
        self.server = build(name, self.activity)
        self.app: HttpApp = self.server.http_app(node_id=name, secrets=[SECRET], **app)
        self.store = line.store if isinstance(line, MemoryLine) else RedisStore(line.url)
        self.cluster = Cluster(self.app, ClusterOptions(**{"secrets": [SECRET], **options}), self.store)
        self.app.join(self.cluster, self.cluster.directory, self.cluster.prove)
        self.wire: RecordedWire
        self.asked: list[Operation] = []
        """What it said to Redis, but for its heartbeat: that beats whenever it likes."""
        self.beating = trio.Lock()
        """Held while it beats: its heart beats on its own as well, but never twice at once."""
        self._run, self._beat = self.store.run, self.heartbeat.beat
        self.store.run = self._noted  # type: ignore[method-assign]
        self.heartbeat.beat = self._beat_alone  # type: ignore[method-assign]
        self._listening = trio.CancelScope()
        self._silent = trio.Event()
        self._nursery: trio.Nursery
        self._whole = trio.CancelScope()
        self.ended = trio.Event()

    @property
    def boot(self) -> str:
        return self.app.boot

    @property
    def heartbeat(self) -> Heartbeat:
        return self.cluster._heartbeat

    @property
    def membership(self) -> Membership:
        return self.cluster._peers.membership

    @property
    def trust(self) -> StoreTrust:
        return self.cluster._store.trust

    def stop_asked(self) -> None:
        """It drains, and its peers hear of it."""
        self.app.life.enter(NodeState.DRAINING)
        self.cluster.announce()

    def hand_over(self) -> None:
        """The delay of its drain is over, and a peer was ready."""
        if self.app.life.state is not NodeState.DRAINING:
            self.stop_asked()
        self.app.life.enter(NodeState.LEAVING)

    def metric(self, line: str) -> float:
        """The value behind `name{labels}`, 0 when there is none."""
        found = [each for each in self.app.service.metrics.render()[0].decode().splitlines() if each.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    @property
    def relayed(self) -> float:
        """Requests that another node answered."""
        return self.metric('trio_mcp_relays_total{outcome="relayed"}')

    async def run(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Until the test ends, or the node dies."""
        with self._whole:
            async with (
                self.cluster.running(),
                self.app.running(),
                asgi_client(self.app) as client,
                trio.open_nursery() as nursery,
            ):
                self.wire = RecordedWire(self, client)
                self._nursery = nursery
                await nursery.start(self._listen, port)
                if self.joins:
                    await self.cluster.join(self.url)
                task_status.started()
                await trio.sleep_forever()
        self.ended.set()

    async def _listen(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        listeners, self.url = await listening(port)
        task_status.started()
        with self._listening:
            await serve(self._heard, listeners)
        self._silent.set()

    async def _heard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/mcp"):
            self.heard.append(scope)
        if self.deaf:
            await trio.sleep_forever()
        await self.app(scope, receive, send)

    async def die(self) -> None:
        """As by SIGKILL: nobody is told, its port refuses, what was open breaks."""
        self.proxy.cut()
        self._listening.cancel()
        await self._silent.wait()
        self._whole.cancel()

    async def refuse(self) -> None:
        """Its port refuses and what was open breaks; it lives and beats."""
        self._listening.cancel()
        await self._silent.wait()

    async def listen_again(self) -> None:
        """Its port is what it was."""
        self._listening, self._silent = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._listen, int(self.url.rpartition(":")[2]))

    async def cut_off(self) -> None:
        """It loses Redis, which has heard all of it until then: what a test writes there, it will not put right."""
        await self.flushed()
        self.proxy.cut()

    async def beat(self) -> None:
        """One heartbeat, now, and the check of its records if one is due then."""
        await self._beat_alone()
        checks = self.cluster._reconciler
        while (checks.pending or checks.under_way) and not self.ended.is_set():  # noqa: ASYNC110
            await trio.sleep(0.01)

    async def _beat_alone(self) -> None:
        async with self.beating:
            await self._beat()

    async def _noted(self, operations: Sequence[Operation]) -> list[Any]:
        self.asked += [each for each in operations if isinstance(each, _ABOUT_SESSIONS)]
        return await self._run(operations)

    async def flushed(self) -> None:
        """Redis has heard of everything it is owed."""
        await self.cluster.directory.writer.flushed()


_ABOUT_SESSIONS = (ReadRecord, ReadTombstone, OpenRecord, PutBackRecord, Publish)


class RecordedWire(Wire):
    """The HTTP side of a node, whose sessions are on record once they are open."""

    def __init__(self, node: Node, client: AsgiClient) -> None:
        super().__init__(node.app, client)
        self._node = node

    async def open(
        self, version: str = LEGACY, capabilities: dict[str, Any] | None = None, headers: Headers | None = None
    ) -> SessionClient:
        """A session that is ready. Its node itself waits for the record, but not for the changes of it that follow."""
        client = await super().open(version, capabilities, headers)
        await self._node.flushed()
        return client


class InProcessCluster:
    """The nodes and what they share."""

    def __init__(
        self, redis: RedisServer | MemoryRedis, nodes: Sequence[Node], scope: trio.CancelScope, nursery: trio.Nursery
    ) -> None:
        self.redis = redis
        self.nodes = list(nodes)
        self.limit = scope
        self._nursery = nursery

    def __getitem__(self, number: int) -> Node:
        """The first is 1, as their names are."""
        return self.nodes[number - 1]

    async def meet(self) -> None:
        """Every node that lives beats, and then again to have heard of all others."""
        for _ in range(2):
            for node in self.nodes:
                if not node.ended.is_set():
                    await node.beat()

    async def leap(self, clock: LeapingClock, seconds: float) -> None:
        """Time passes for all nodes, but not for Redis: at a moment when nobody waits for its answer."""
        stores = [node.store for node in self.nodes if isinstance(node.store, RedisStore)]
        while any(store._client._threads.borrowed_tokens for store in stores):  # noqa: ASYNC110
            await trio.sleep(0.01)
        clock.leap(seconds)
        self.limit.deadline += seconds

    async def start(self, node: Node, port: int = 0) -> None:
        """Another one; on the port of one that died, if need be."""
        self.nodes.append(node)
        await self._nursery.start(node.run, port)
        await self.meet()

    async def record(self, session_id: str) -> Any:
        """What Redis has of a session."""
        raw = await self.redis.ask("GET", KEYS.session(session_id))
        return None if raw is None else msgspec.json.decode(raw)

    async def change_record(self, session_id: str, **changes: Any) -> None:
        """Write other values into it."""
        found = {**await self.record(session_id), **changes}
        await self.redis.ask("SET", KEYS.session(session_id), msgspec.json.encode(found).decode())

    async def tombstone(self, session_id: str) -> Any:
        """The tombstone."""
        raw = await self.redis.ask("GET", KEYS.closed(session_id))
        return None if raw is None else msgspec.json.decode(raw)

    async def card(self, name: str) -> Any:
        """What a node says of itself, as Redis has it."""
        raw = await self.redis.ask("GET", KEYS.node(name))
        return None if raw is None else msgspec.json.decode(raw)

    async def change_card(self, name: str, **changes: Any) -> None:
        """What a node says of itself is another now, for whoever looks next."""
        found = {**(await self.card(name) or {}), **changes}
        await self.redis.ask("SET", KEYS.node(name), msgspec.json.encode(found).decode())

    async def drop_card(self, name: str) -> None:
        """A node's card falls, and the others see it."""
        await self.redis.ask("DEL", KEYS.node(name))
        for node in self.nodes:
            if node.name != name and not node.ended.is_set():
                await node.beat()


@asynccontextmanager
async def in_process_cluster(
    folder: Path,
    count: int = 2,
    *,
    build: Callable[[str, Activity], MCPServer] = demo,
    app: dict[str, Any] | None = None,
    in_haste: bool = False,
    missed_beat: float = 0.3,
    **options: Any,
) -> AsyncIterator[InProcessCluster]:
    """`count` nodes that know each other; `app` is for `http_app`, `options` for ClusterOptions.

    In haste they wait for Redis no longer than nodes do. A node that refuses connections is gone when it has not beaten for
    `missed_beat` seconds: no test need wait as long as nodes do.
    """
    with nullcontext() if in_haste else waiting_long(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio_mcp.cluster.membership.MISSED_BEAT_SECONDS", missed_beat)
        async with _town(folder, count, build, app or {}, options) as made:
            yield made


@asynccontextmanager
async def _town(
    folder: Path, count: int, build: Callable[[str, Activity], MCPServer], app: dict[str, Any], options: dict[str, Any]
) -> AsyncIterator[InProcessCluster]:
    async with shared_store(folder, count) as (redis, lines), trio.open_nursery() as nursery:
        names = [f"node{number}" for number in range(1, count + 1)]
        nodes = [Node(name, line, build, app, options) for name, line in zip(names, lines, strict=True)]
        with trio.fail_after(PATIENCE) as limit:
            for node in nodes:
                await nursery.start(node.run, 0)
            made = InProcessCluster(redis, nodes, limit, nursery)
            await made.meet()
            yield made
        nursery.cancel_scope.cancel("the test is over")


@asynccontextmanager
async def shared_store(
    folder: Path, count: int
) -> AsyncIterator[tuple[RedisServer | MemoryRedis, Sequence[TcpProxy | MemoryLine]]]:
    """What the nodes share, and the way of each to it: in memory where the test has its network there."""
    if network() is not None:
        memory = MemoryRedis()
        yield memory, [MemoryLine(memory.memory) for _ in range(count)]
        return
    async with redis_server(folder) as redis, tcp_proxies(redis.port, count) as lines:
        yield redis, lines


@asynccontextmanager
async def tcp_proxies(port: int, count: int) -> AsyncIterator[list[TcpProxy]]:
    """Several."""
    if not count:
        yield []
        return
    async with tcp_proxy(port) as first, tcp_proxies(port, count - 1) as others:
        yield [first, *others]


def at(node: Node, client: SessionClient) -> SessionClient:
    """The same client, whose balancer picks another node."""
    found = SessionClient(node.wire, client.version, client.id, client.oracle, {})
    found.headers, found.ids = client.headers, client.ids
    return found


def stranger(node: Node, session_id: str) -> SessionClient:
    """Whoever says that id there."""
    return SessionClient(node.wire, "2025-11-25", session_id, Oracle("2025-11-25"), {})
