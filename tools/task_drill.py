"""`python -m tools.task_drill SEED [--traefik] [--tokens] [--workers N]`: what becomes of tasks when everything under them is taken away, one after the other.

Three nodes over one Redis. 200 tasks of 1 to 60 s begin over two minutes, a third idempotent, a third with a question; every
client polls at any node. Meanwhile

- the nodes are restarted one after the other, with a drain window of 8 s
- one node stands still for 20 s (SIGSTOP), and goes on
- each node in turn is killed (SIGKILL) and started anew; in between Redis is killed and started anew, and once it has no memory for writes

What must hold: nothing runs twice but what is idempotent, and of what asks nothing after its answer; every task ends, and an idempotent
one with its result unless its nodes were killed three times; no poll says that a task is unknown, and what has ended stays as it is. Prints what was seen, one line
for each violation, and exits 1 when there was one.

--traefik: the clients know Traefik alone, and their requests go to the nodes in turn. --tokens: people who have logged in, and a machine, with tokens
of 20 s from a real authorization server, which they renew; one more asks for tasks of the others and must be told that there are none.
--workers: each node has so many; one of each is killed as well, and those of one node are replaced by SIGHUP. --alone: one node without Redis,
with two workers or so many; they are killed, and replaced.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.rig.authorization_server import authorization_server
from tests.rig.cluster import Cluster, cluster
from tests.rig.logins import Held, logged_in, machine
from tests.rig.nodes import SERVER
from tests.rig.routing import shipped
from tests.rig.task_traffic import TaskTraffic, Watched
from tests.rig.waiting import until
from tests.serving.workers.node import WorkersNode
from tests.serving.workers.node import node as workers_node
from tools.drill import errors
from tools.faults import has_all_workers, kill_worker, replace_workers

__all__ = ["main", "violations"]

SERVED = SERVER.with_name("tasks.py")
TOOLS = ("plain", "again", "asks")
TASKS, LONGEST, EVERY = 200, 60.0, 0.55
FLAGS = ("--drain-delay", "1", "--drain-timeout", "8")
ENDS_SECONDS = 400.0
RESOURCE = "https://mcp.example.com/mcp"
TOKEN_SECONDS, LEEWAY, PEOPLE = 20, 2, 4
STILL_SECONDS = 20.0
"""Longer than the card of a node stands."""
FULL_BYTES = "1"
"""maxmemory of a Redis that takes no more writes."""
OUTCOMES = {
    "plain": ("completed", "node_gone", "shutdown"),
    "again": ("completed", "attempts"),
    "asks": ("completed", "node_gone", "shutdown"),
}
"""How a task may end: with its result, or failed for one of these reasons."""


def violations(tasks: Iterable[Watched], runs: Sequence[tuple[str, str]], wrong: Sequence[str]) -> list[str]:
    """What should not have been; `runs` are names and steps of handlers, in order."""
    counted = Counter(runs)
    found = list(wrong)
    for task in tasks:
        outcome = task.reason or task.last.get("status", "none")
        if outcome not in OUTCOMES[task.tool]:
            found.append(f"{task.name} ({task.tool}, {task.seconds:g} s) ended as {outcome}: {task.statuses}")
        name = f"{task.name}:accept" if task.tool == "asks" else task.name
        if task.tool != "again" and counted[name, "began"] > 1:
            found.append(f"{task.name} ({task.tool}) ran {counted[name, 'began']} times")
        if outcome == "completed" and not counted[name, "done"]:
            found.append(f"{task.name} ({task.tool}) is completed, and was not done")
    return found


async def faults(standing: Cluster, chance: random.Random, killed: set[int]) -> None:
    """Everything that is done to the cluster, in order; `killed` gets the pids of the workers that are killed one by one."""
    for node in standing.nodes:
        await trio.sleep(chance.uniform(2, 5))
        print(f"  {node.name} is restarted", flush=True)
        await node.restart()
        if node.workers > 1:
            await has_all_workers(node)
            print(f"  a worker of {node.name} is killed", flush=True)
            await kill_worker(node, chance.random(), killed)
    still = chance.choice(standing.nodes)
    print(f"  {still.name} stands still", flush=True)
    still.pause()
    await trio.sleep(STILL_SECONDS)
    still.resume()
    if still.workers > 1:
        print(f"  the workers of {still.name} are replaced", flush=True)
        await replace_workers(still)
    for number, node in enumerate(standing.nodes):
        await trio.sleep(chance.uniform(4, 8))
        print(f"  {node.name} is killed", flush=True)
        await node.kill()
        await trio.sleep(chance.uniform(1, 9))
        await node.start()
        await trio.sleep(chance.uniform(2, 4))
        if number == 0:
            print("  Redis is killed and started anew", flush=True)
            await standing.redis.stop()
            await trio.sleep(chance.uniform(2, 4))
            await standing.redis.start()
        elif number == 1:
            print("  Redis is full for a while", flush=True)
            await standing.redis.ask("CONFIG", "SET", "maxmemory", FULL_BYTES)
            await trio.sleep(chance.uniform(4, 6))
            await standing.redis.ask("CONFIG", "SET", "maxmemory", "0")


async def drilled(given: argparse.Namespace) -> int:
    """One run; how many violations there were."""
    async with _holders(given.tokens) as (held, settings):
        return await (_alone if given.alone else _clustered)(given, held, settings)


async def _clustered(given: argparse.Namespace, held: Sequence[Held], settings: Mapping[str, str]) -> int:
    """Three nodes."""
    flags = (*FLAGS, "--workers", str(given.workers)) if given.workers > 1 else FLAGS
    routing = (shipped,) if given.traefik else ()
    async with cluster(flags=flags, server=SERVED, environment=settings, routing=routing, appendonly=True) as standing:
        urls = [standing.url] if given.traefik else [node.url for node in standing.nodes]
        traffic, killed = TaskTraffic(urls, given.seed, held, balanced=given.traefik), set[int]()
        with trio.move_on_after(ENDS_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(traffic.run, TOOLS, given.tasks, LONGEST, EVERY)
                nursery.start_soon(faults, standing, random.Random(given.seed), killed)
        wrong = [line for line in errors(standing.logged(""), killed) if "redis refuses" not in line]
        unbounded = [f"no expiry: {key}" for key in await _keys_without_expiry(standing)]
        return _judged(traffic, standing.runs_file, [*unbounded, *wrong], held)


async def _alone(given: argparse.Namespace, held: Sequence[Held], settings: Mapping[str, str]) -> int:
    """One node without Redis, whose workers are killed and replaced."""
    with tempfile.TemporaryDirectory() as folder:
        runs_file = Path(folder) / "runs"
        os.environ.update({**settings, "RIG_RUNS": str(runs_file)})
        async with workers_node(*FLAGS[2:], workers=max(2, given.workers), target=SERVED) as standing:
            traffic = TaskTraffic([standing.url], given.seed, held)
            with trio.move_on_after(ENDS_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(traffic.run, TOOLS, given.tasks, LONGEST, EVERY)
                    nursery.start_soon(worker_faults, standing, random.Random(given.seed))
            lines = [line for line in standing.run.lines if '"level":"error"' in line]
        return _judged(traffic, runs_file, [line for line in lines if "worker died" not in line], held)


async def worker_faults(standing: WorkersNode, chance: random.Random) -> None:
    """Workers are killed, and all of them replaced, in turn."""
    for number in range(4):
        await trio.sleep(chance.uniform(6, 12))
        if number == 2:
            print("  the workers are replaced", flush=True)
            standing.signal(signal.SIGHUP)

            async def rolled() -> bool:
                return bool(standing.events("rolled"))

            await until(rolled, "the workers are replaced")
        else:
            killed = chance.choice(sorted(standing.pids))
            print(f"  worker {killed} is killed", flush=True)
            os.kill(killed, signal.SIGKILL)
        await standing.all_ready()


def _judged(traffic: TaskTraffic, runs_file: Path, wrong: Sequence[str], held: Sequence[Held]) -> int:
    """Print what was seen; how many violations there were."""
    runs = [_step(line) for line in runs_file.read_text().splitlines()]
    found = violations(traffic.tasks, runs, [*traffic.wrong, *wrong])
    _print(traffic, runs)
    if held:
        print(
            f"  {sum(each.renewals for each in held)} tokens renewed, {sum(each.refused for each in held)} after a 401"
        )
    for each in found[:40]:
        print(f"  {each}")
    print(f"{len(found)} violations", flush=True)
    return len(found)


@asynccontextmanager
async def _holders(tokens: bool) -> AsyncIterator[tuple[Sequence[Held], Mapping[str, str]]]:
    """Who has tokens, a stranger first, and what turns authorization on; nobody and nothing without `tokens`."""
    if not tokens:
        yield (), {}
        return
    async with authorization_server(seconds=TOKEN_SECONDS) as server:
        people = [
            await logged_in(server, RESOURCE, f"person-{number}", eager=number % 2 == 0) for number in range(PEOPLE)
        ]
        settings = {
            "TRIO_MCP_AUTH_ISSUER": server.issuer,
            "TRIO_MCP_AUTH_RESOURCE": RESOURCE,
            "TRIO_MCP_AUTH_REQUIRED_SCOPES": "mcp:read",
            "TRIO_MCP_AUTH_LEEWAY": f"{LEEWAY}s",
        }
        yield [*people, machine(server, RESOURCE)], settings


def _step(line: str) -> tuple[str, str]:
    name, step, *_ = line.split()
    return name, step


async def _keys_without_expiry(standing: Cluster) -> list[str]:
    keys = [key.decode() for key in await standing.redis.ask("KEYS", "mcp:task*")]
    return [key for key in keys if await standing.redis.ask("TTL", key) < 0]


def _print(traffic: TaskTraffic, runs: Sequence[tuple[str, str]]) -> None:
    for tool in TOOLS:
        ended = Counter(task.reason or task.last.get("status", "none") for task in traffic.tasks if task.tool == tool)
        print(f"  {tool}: {dict(ended)}")
    began = Counter(name for name, step in runs if step == "began")
    print(
        f"  {sum(1 for each in began.values() if each > 1)} ran more than once; polls were answered {dict(traffic.answers)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--traefik", action="store_true", help="the clients know a balancer alone")
    parser.add_argument("--tokens", action="store_true", help="with authorization")
    parser.add_argument("--workers", type=int, default=1, help="of each node")
    parser.add_argument("--alone", action="store_true", help="one node, with workers and without Redis")
    parser.add_argument("--tasks", type=int, default=TASKS)
    return 1 if trio.run(drilled, parser.parse_args()) else 0


if __name__ == "__main__":
    sys.exit(main())
