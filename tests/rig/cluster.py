"""A whole cluster on loopback: Redis, nodes with names, Traefik in front; every part can be stopped and started."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.rig.load import runs
from tests.rig.nodes import SERVER, Node
from tests.rig.redis import RedisServer, redis_server
from tests.rig.routing import Variant, shipped
from tests.rig.traefik import Traefik, traefik
from tests.rig.waiting import until

__all__ = ["Cluster", "cards", "cluster"]

STOP_SECONDS = 60.0


@dataclass(slots=True)
class Cluster:
    """The parts of the cluster. Nodes are called node1, node2, node3."""

    folder: Path
    redis: RedisServer
    secret: str
    nodes: list[Node] = field(default_factory=list)
    twins: list[Node] = field(default_factory=list)
    balancers: list[Traefik] = field(default_factory=list)
    """One for each variant of routing that was asked for."""

    @property
    def traefik(self) -> Traefik:
        """The first balancer: the shipped configuration, unless another was asked for."""
        return self.balancers[0]

    @property
    def url(self) -> str:
        """What MCP clients are given: TLS, with Traefik's own certificate."""
        return self.traefik.mcp_url

    @property
    def urls(self) -> dict[str, str]:
        """Each node's URL by its name."""
        return {node.name: node.url for node in self.nodes}

    @property
    def runs_file(self) -> Path:
        """What `count_runs` writes to."""
        return self.folder / "runs"

    def runs(self) -> Mapping[str, int]:
        """How often each call of `count_runs` ran, on all nodes together."""
        return runs(self.runs_file)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def others(self, name: str) -> list[Node]:
        """All but that one."""
        return [node for node in self.nodes if node.name != name]

    def twin(self, name: str) -> Node:
        """A second process under the same node id, on ports of its own; not started yet."""
        first = self.node(name)
        self.twins.append(Node(name, first.nursery, first.target, first.flags, first.environment))
        return self.twins[-1]

    async def metric(self, name: str, **labels: str) -> float:
        """A metric's sum over the nodes that run, and over its labels but those given."""
        return sum([await node.metric(name, **labels) for node in self.nodes if node.alive])

    def logged(self, text: str) -> list[str]:
        """Log lines of all nodes that contain `text`."""
        return [line for node in self.nodes for line in node.lines if text in line]

    async def together(self) -> None:
        """Wait until every node, or each of its workers, has a card in Redis with its URL and the state ready."""

        async def asked() -> bool:
            found = [(node, await cards(self.redis, node)) for node in self.nodes]
            return all(len(each) == node.workers and all(map(_is_ready, each.values())) for node, each in found)

        await until(asked, "every node is known to Redis")


async def cards(redis: RedisServer, node: Node) -> dict[str, dict[str, Any]]:
    """The node's card by its name, or those of its workers by theirs."""
    names = [node.name]
    if node.workers > 1:
        members = [name.decode() for name in await redis.ask("ZRANGE", "mcp:nodes", "0", "-1")]
        names = [name for name in members if name.rpartition("-w")[0] == node.name]
    found = {name: await redis.ask("GET", f"mcp:node:{name}") for name in names}
    return {name: json.loads(card) for name, card in found.items() if card}


def _is_ready(card: Mapping[str, Any]) -> bool:
    return bool(card["url"] and card["state"] == "ready")


@asynccontextmanager
async def cluster(
    nodes: int = 3,
    *,
    restore: bool = False,
    flags: Sequence[str] = (),
    server: Path = SERVER,
    environment: Mapping[str, str] | None = None,
    routing: Sequence[Variant] = (shipped,),
    appendonly: bool = False,
) -> AsyncIterator[Cluster]:
    """Redis, that many nodes, and a Traefik for each way of routing, for the length of the block; nothing survives it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-")))
        redis = await stack.enter_async_context(redis_server(folder, appendonly=appendonly))
        found = Cluster(folder, redis, secrets.token_urlsafe(32))
        await stack.enter_async_context(
            _running(found, nodes, ("--restore", *flags) if restore else flags, server, environment)
        )
        for number, variant in enumerate(routing):
            at = folder / f"traefik{number}"
            found.balancers.append(await stack.enter_async_context(traefik(at, variant(found.urls))))
        await found.together()
        yield found


@asynccontextmanager
async def _running(
    found: Cluster, count: int, flags: Sequence[str], server: Path, environment: Mapping[str, str] | None
) -> AsyncIterator[None]:
    shared = {
        "TRIO_MCP_SECRET": found.secret,
        "TRIO_MCP_REDIS_URL": found.redis.url,
        "RIG_RUNS": str(found.runs_file),
        **(environment or {}),
    }
    async with trio.open_nursery() as nursery:
        names = [f"node{number}" for number in range(1, count + 1)]
        found.nodes += [Node(name, nursery, server, flags, shared) for name in names]
        try:
            async with trio.open_nursery() as starting:
                for node in found.nodes:
                    starting.start_soon(node.start)
            yield
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
                async with trio.open_nursery() as stopping:
                    for node in [*found.nodes, *found.twins]:
                        stopping.start_soon(node.stop)
            nursery.cancel_scope.cancel("the nodes are gone")
