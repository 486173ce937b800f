"""`python -m tools.drill SEED MINUTES`: faults on a cluster without `--restore`, and what its clients may see of them.

Three nodes behind Traefik, each with a gate before it that only its peers go through. At random a node is killed, told to stop, stopped
for a while (SIGSTOP), or refuses its peers. What must hold:

- A call is answered, or fails in a way that is promised: 404 `node_gone` when the process that had its session was killed, or was told
  to stop and its window is over; the error "may or may not have been done" or "shutting down", a 502 of Traefik or a broken connection
  when a process it went through was under a fault while it ran, or just before; 503 `unreachable` while its node cannot be reached.
- A session whose process lives all the time is never lost: no 404, whatever its peers thought of it.
- No call runs twice; what was answered with a result has run; what was answered with a 404 has not.
- No session is on two nodes, and at the end each session that lives has its record, and no other of a process that lives.

Prints one line for each violation and one at the end; exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from tests.rig.http_connection import Broken
from tests.rig.load import Call, Load, load, runs
from tests.rig.nodes import SERVER, Node
from tests.rig.records import wrong_records
from tests.rig.redis import RedisServer, redis_server
from tests.rig.routing import shipped
from tests.rig.traefik import traefik

__all__ = ["main"]

DELAY, WINDOW = 1.0, 6.0
FLAGS = ("--drain-delay", str(DELAY), "--drain-timeout", str(WINDOW))
NOTICE = 8.0
"""Seconds after a fault for which a balancer or a peer may still go by what was before it."""
KINDS = ("kill", "term", "stop", "refuse")
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Gate:
    """A proxy before one node, on 127.0.0.2 and the node's own port, through which peers reach it; it can refuse."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open = trio.CancelScope()
        self._may_listen = trio.Event()
        self._may_listen.set()

    def refuse(self) -> None:
        """Connections break, and new ones are refused."""
        self._may_listen = trio.Event()
        self._open.cancel()

    def pass_on(self) -> None:
        """Accept connections again."""
        self._may_listen.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._may_listen.wait()
            with trio.CancelScope() as self._open:
                await trio.serve_tcp(self._carry, self._node.port, host=self._node.host)

    async def _carry(self, near: trio.SocketStream) -> None:
        with suppress(*_GONE):
            async with near, await trio.open_tcp_stream("127.0.0.1", self._node.port) as far:
                async with trio.open_nursery() as both:
                    both.start_soon(_copy, near, far, both.cancel_scope)
                    both.start_soon(_copy, far, near, both.cancel_scope)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    with suppress(*_GONE):
        async for data in source:
            await sink.send_all(data)
    both.cancel("one end has gone")


@dataclass(slots=True)
class Fault:
    """What was done to a node, from when to when (trio clock)."""

    kind: str
    node: str
    began: float
    ended: float = float("inf")

    def touches(self, call: Call) -> bool:
        """Whether the call was under way during it, or soon after."""
        return self.began <= call.ended and call.started <= self.ended + NOTICE


@dataclass(slots=True)
class Drill:
    """The cluster, what was done to it, and what was wrong."""

    nodes: list[Node]
    redis: RedisServer
    gates: Mapping[str, Gate]
    runs_file: Path
    random: random.Random
    faults: list[Fault] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def harm(self, seconds: float) -> None:
        """Cause one fault after the other."""
        until = trio.current_time() + seconds
        while (pause := self.random.uniform(3, 10)) < until - trio.current_time():
            await trio.sleep(pause)
            node, kind = self.random.choice(self.nodes), self.random.choice(KINDS)
            fault = Fault(kind, node.name, trio.current_time())
            self.faults.append(fault)
            await self._do(kind, node, self.random.uniform(0.2, 8))
            fault.ended = trio.current_time()

    async def _do(self, kind: str, node: Node, seconds: float) -> None:
        match kind:
            case "kill":
                await node.kill()
                await trio.sleep(seconds)
                await node.start()
            case "term":
                code = await node.terminate()
                if code != 0:
                    self.wrong.append(f"{node.name} ended with {code} when it was told to stop")
                await node.start()
            case "stop":
                node.pause()
                await trio.sleep(seconds)
                node.resume()
            case "refuse":
                self.gates[node.name].refuse()
                await trio.sleep(seconds)
                self.gates[node.name].pass_on()

    async def watch(self) -> None:
        """Check that no session is on two nodes."""
        while True:
            seen: Counter[str] = Counter()
            for node in self.nodes:
                with suppress(OSError, Broken), trio.move_on_after(1):
                    seen.update(each["session"] for each in await node.sessions())
            self.wrong += [f"session {session} is on {count} nodes" for session, count in seen.items() if count > 1]
            await trio.sleep(1)

    async def compare_records(self) -> None:
        """Records are as the nodes say, at least once within `NOTICE` seconds: sessions still open and end meanwhile."""
        wrong = list[str]()
        with trio.move_on_after(NOTICE):
            while wrong := await wrong_records(self, ended_processes=False):  # noqa: ASYNC110
                await trio.sleep(0.3)
            return
        self.wrong += wrong

    def judge(self, traffic: Load) -> None:
        """Check all calls at the end."""
        ran = runs(self.runs_file)
        self.wrong += [f"call {name} ran {count} times" for name, count in ran.items() if count > 1]
        for call in traffic.calls:
            if not call.error:
                if not ran[call.name]:
                    self.wrong.append(f"answered, and never run: {call}")
            elif call.status == 404:
                if ran[call.name]:
                    self.wrong.append(f"run, and called lost: {call}")
                if call.reason != "node_gone" or not self._was_ended(traffic, call):
                    self.wrong.append(f"lost without its process having ended: {call}")
            elif not any(fault.touches(call) for fault in self.faults):
                self.wrong.append(f"failed for no reason: {call}")

    def _was_ended(self, traffic: Load, call: Call) -> bool:
        """Whether the process that had the session was killed, or its window was over, between opening and answer."""
        opened = max(
            each.started for each in traffic.openings if each.client == call.client and each.started <= call.started
        )
        ends = [
            fault.began + (DELAY + WINDOW if fault.kind == "term" else 0.0)
            for fault in self.faults
            if fault.node == call.owner and fault.kind in ("kill", "term")
        ]
        return any(opened <= end <= call.ended for end in ends)


@asynccontextmanager
async def standing(seed: int) -> AsyncIterator[tuple[Drill, str]]:
    """The drill, and the balancer's URL."""
    with tempfile.TemporaryDirectory(prefix="drill-") as name:
        folder = Path(name)
        async with redis_server(folder) as redis, trio.open_nursery() as nursery:
            shared = {
                "TRIO_MCP_SECRET": secrets.token_urlsafe(32),
                "TRIO_MCP_REDIS_URL": redis.url,
                "RIG_RUNS": str(folder / "runs"),
            }
            nodes = [Node(f"node{number}", nursery, SERVER, FLAGS, shared, host="127.0.0.2") for number in (1, 2, 3)]
            gates = {node.name: Gate(node) for node in nodes}
            for gate in gates.values():
                nursery.start_soon(gate.run)
            urls = {node.name: f"http://127.0.0.1:{node.port}" for node in nodes}
            try:
                for node in nodes:
                    await node.start()
                async with traefik(folder / "traefik", shipped(urls)) as balancer:
                    yield Drill(nodes, redis, gates, folder / "runs", random.Random(seed)), balancer.mcp_url
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                    for node in nodes:
                        await node.stop()
            nursery.cancel_scope.cancel("the drill is over")


async def run(seed: int, seconds: float, clients: int) -> list[str]:
    """The violations."""
    async with standing(seed) as (drill, url):
        async with load(url, clients=clients, pause=0.4) as traffic:
            await traffic.settled()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drill.watch)
                await drill.harm(seconds)
                await trio.sleep(NOTICE)
                await traffic.settled()
                await drill.compare_records()
                nursery.cancel_scope.cancel("seen enough")
        drill.judge(traffic)
        did = Counter(fault.kind for fault in drill.faults)
        print(f"seed {seed}: {dict(did)}; {traffic.summary()}", flush=True)
        drill.wrong += [
            f"error in a log: {line}" for node in drill.nodes for line in node.lines if '"level":"error"' in line
        ]
        return drill.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--clients", type=int, default=30)
    given = parser.parse_args()
    wrong = trio.run(partial(run, given.seed, 60 * given.minutes, given.clients))
    for each in wrong[:30]:
        print(each)
    print(f"{len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
