"""What drills do to a cluster: at random, one after the other or several at once; each is kept with its times."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.rig.gates import Gate
from tests.rig.nodes import Node
from tests.rig.redis import RedisServer
from tests.rig.traefik import Traefik
from tests.rig.waiting import until
from tests.serving.workers.node import all_gone

__all__ = [
    "OF_NODES",
    "OF_STORES",
    "OF_WORKERS",
    "Fault",
    "Faults",
    "Parts",
    "has_all_workers",
    "kill_worker",
    "replace_workers",
]

OF_NODES = ("kill", "term", "pause", "refuse", "hold")
"""The node's processes are killed; it is told to stop; all stand still (SIGSTOP); its peers are refused, or get nothing through."""
OF_WORKERS = ("worker kill", "worker kill", "worker pause", "supervisor kill", "roll")
"""Of a node with workers. They die most often of all, so it is there twice."""
OF_STORES = ("redis kill", "redis empty", "redis freeze", "traefik kill")
"""Redis comes back with its data, without, or had only stood still."""

PAUSES = 3.0, 10.0
"""Seconds between two faults."""
AT_ONCE = 0.2
"""Seconds that are too short for anybody to notice."""


@dataclass(slots=True)
class Fault:
    """What was done to a part of the cluster, from when to when (trio clock)."""

    kind: str
    part: str
    """The node, `redis` or `traefik`."""
    began: float
    ended: float = float("inf")
    worker: str = ""
    """The worker that was killed."""

    def touches(self, began: float, ended: float, notice: float) -> bool:
        """Whether what took place in that time was under way during it, or within `notice` seconds after it."""
        return self.began <= ended and began <= self.ended + notice


@dataclass(slots=True)
class Parts:
    """A cluster that is harmed."""

    nodes: Sequence[Node]
    redis: RedisServer
    gates: Mapping[str, Gate]
    balancer: Traefik
    runs_file: Path


@dataclass(slots=True)
class Faults:
    """What is done to those parts: of these kinds, each for `longest` seconds at most where it has a length."""

    parts: Parts
    kinds: Sequence[str]
    chance: random.Random
    longest: float
    done: list[Fault] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    """The pids of workers."""

    async def go_on(self, seconds: float, *, at_once: bool) -> None:
        """Cause one fault after the other, or begin the next while those of other parts last."""
        until_then, busy = trio.current_time() + seconds, set[str]()
        async with trio.open_nursery() as nursery:
            while (pause := self.chance.uniform(*PAUSES)) < until_then - trio.current_time():
                await trio.sleep(pause)
                node, kind = self.chance.choice(self.parts.nodes), self.chance.choice(self.kinds)
                part, share = kind.split()[0] if kind in OF_STORES else node.name, self.chance.random()
                if part in busy:
                    continue
                busy.add(part)
                if at_once:
                    nursery.start_soon(self._cause, kind, part, node, share, busy)
                else:
                    await self._cause(kind, part, node, share, busy)

    async def _cause(self, kind: str, part: str, node: Node, share: float, busy: set[str]) -> None:
        fault = Fault(kind, part, trio.current_time())
        self.done.append(fault)
        await self._do(fault, node, share)
        fault.ended = trio.current_time()
        busy.discard(part)

    async def _do(self, fault: Fault, node: Node, share: float) -> None:
        seconds, redis = AT_ONCE + share * (self.longest - AT_ONCE), self.parts.redis
        match fault.kind:
            case "kill":
                await node.kill()
                await self._start_anew(node, seconds)
            case "term":
                code = await node.terminate()
                if code != 0:
                    self.wrong.append(f"{node.name} ended with {code} when it was told to stop")
                await self._start_anew(node)
            case "pause":
                await _for(seconds, node.pause, node.resume)
            case "refuse" | "hold" as kind:
                gate = self.parts.gates[node.name]
                await _for(seconds, gate.refuse if kind == "refuse" else gate.hold, gate.pass_on)
            case "redis kill" | "redis empty" as kind:
                await redis.stop()
                await trio.sleep(seconds)
                await redis.start(empty=kind == "redis empty")
            case "redis freeze":
                await _for(seconds, redis.pause, redis.resume)
            case "traefik kill":
                await self.parts.balancer.stop()
                await trio.sleep(AT_ONCE)
                await self.parts.balancer.start()
            case "supervisor kill":
                workers = node.worker_pids
                node.process.kill()
                await node.process.wait()
                await all_gone(workers)
                await self._start_anew(node)
            case "roll":
                await replace_workers(node)
            case "worker pause":
                worker = _chosen(node, share)
                await _for(
                    seconds,
                    lambda: node.signal(signal.SIGSTOP, [worker]),
                    lambda: node.signal(signal.SIGCONT, [worker]),
                )
            case "worker kill":
                fault.worker = await kill_worker(node, share, self.killed)

    async def _start_anew(self, node: Node, seconds: float = 0.0) -> None:
        """Start a node that has ended, after a while in which its gate refuses peers, as a host does where nobody listens."""
        gate = self.parts.gates[node.name]
        gate.refuse()
        await trio.sleep(seconds)
        gate.pass_on()
        await node.start()


def _chosen(node: Node, share: float) -> int:
    workers = node.worker_pids
    return workers[int(share * len(workers))]


async def kill_worker(node: Node, share: float, killed: set[int]) -> str:
    """Kill one of a node's workers, chosen by a number from 0 to 1; its name, once another has taken its place.

    Its pid is put into `killed` before its node says that it died.
    """
    pid = _chosen(node, share)
    killed.add(pid)
    node.signal(signal.SIGKILL, [pid])

    async def died() -> str:
        return next((str(each["worker"]) for each in node.events('"worker died"') if each["pid"] == pid), "")

    name = await until(died, f"{node.name} says that worker {pid} died")

    await has_all_workers(node)
    return name


async def has_all_workers(node: Node) -> None:
    """Wait until all its workers serve. If the first one is killed before the supervisor has heard that it serves, the node cannot start, and ends."""

    async def whole() -> bool:
        return await node.metric("trio_mcp_workers") == node.workers

    await until(whole, f"{node.name} has all its workers")


async def replace_workers(node: Node) -> None:
    """Have a node replace all its workers, by SIGHUP, and wait until it has."""

    def over() -> int:
        return len(node.events('"rolled"')) + len(node.events('"roll given up"'))

    before = over()
    node.process.send_signal(signal.SIGHUP)

    async def rolled() -> bool:
        return over() > before

    await until(rolled, f"{node.name} has replaced its workers")


async def _for(seconds: float, begin: Callable[[], object], end: Callable[[], object]) -> None:
    begin()
    try:
        await trio.sleep(seconds)
    finally:
        end()
