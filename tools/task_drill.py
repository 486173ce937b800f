"""`python -m tools.task_drill SEED`: what becomes of tasks when everything under them is taken away, one after the other.

Three nodes over one Redis. 200 tasks of 1 to 60 s begin over two minutes, a third idempotent, a third with a question; every
client polls at any node. Meanwhile

- the nodes are restarted one after the other, with a drain window of 8 s
- one node stands still for 20 s (SIGSTOP), and goes on
- each node in turn is killed (SIGKILL) and started anew; in between Redis is killed and started anew, and once it has no memory for writes

What must hold: nothing runs twice but what is idempotent, and of what asks nothing after its answer; every task ends, and an idempotent
one with its result unless its nodes were killed three times; no poll says that a task is unknown, and what has ended stays as it is. Prints what was seen, one line
for each violation, and exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import trio

from tests.rig.cluster import Cluster, cluster
from tests.rig.nodes import SERVER
from tests.rig.task_traffic import TaskTraffic, Watched

__all__ = ["main", "violations"]

SERVED = SERVER.with_name("tasks.py")
TOOLS = ("plain", "again", "asks")
TASKS, LONGEST, EVERY = 200, 60.0, 0.55
FLAGS = ("--drain-delay", "1", "--drain-timeout", "8")
ENDS_SECONDS = 400.0
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


async def faults(standing: Cluster, chance: random.Random) -> None:
    """Everything that is done to the cluster, in order."""
    for node in standing.nodes:
        await trio.sleep(chance.uniform(2, 5))
        print(f"  {node.name} is restarted", flush=True)
        await node.restart()
    still = chance.choice(standing.nodes)
    print(f"  {still.name} stands still", flush=True)
    still.pause()
    await trio.sleep(STILL_SECONDS)
    still.resume()
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


async def drilled(seed: int) -> int:
    """One run; how many violations there were."""
    async with cluster(flags=FLAGS, server=SERVED, routing=(), appendonly=True) as standing:
        traffic = TaskTraffic([node.url for node in standing.nodes], seed)
        with trio.move_on_after(ENDS_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(traffic.run, TOOLS, TASKS, LONGEST, EVERY)
                nursery.start_soon(faults, standing, random.Random(seed))
        runs = [_step(line) for line in standing.runs_file.read_text().splitlines()]
        errors = [
            f"error in a log: {line}" for line in standing.logged('"level":"error"') if "redis refuses" not in line
        ]
        found = violations(traffic.tasks, runs, [*traffic.wrong, *errors])
        keys = await _keys_without_expiry(standing)
        found += [f"no expiry: {key}" for key in keys]
    _print(traffic, runs)
    for each in found[:40]:
        print(f"  {each}")
    print(f"{len(found)} violations", flush=True)
    return len(found)


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
    return 1 if trio.run(partial(drilled, parser.parse_args().seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
