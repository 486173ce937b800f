"""What a call costs over several workers, in processor time of all processes of a node, against one process.

 kept     each client has its session and a kept connection, which any worker may accept: the connection moves once, or not at all
 pool     32 connections that carry 1,000 sessions at random, as a balancer's: connections move again and again

All nodes run the whole time, and each round measures all of them, one right after the other, over new connections. The times are the
processes' own, so the load may use the same cores; but processes that share cores and their caches cost each other time, and one that is
less busy finds fewer calls at once. So the same load goes to as many nodes of one worker, too, which have nothing to do with each other.
Calls before the first round have most workers find most sessions once. `mcp` 2.3 under uvicorn with two workers is beside it for the
sessions that it does not find.
"""

from __future__ import annotations

import argparse
import http.client
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.machine import MissingTool, check, cpu_seconds, describe
from benchmarks.servers import OURS, PYTHON, QUIET, UVICORN
from benchmarks.session_calls import Line, make_calls, spread_sessions
from tools.report import between, table, today
from tools.served import Served, ServerFailed, served

CLIENTS, SESSIONS, CONNECTIONS = 64, 1000, 32
OF_OTHERS = 100
"""Sessions of `mcp` 2.3."""
READY_SECONDS = 60.0
WORKERS = (1, 2, 4)
TARGETS = {"kept": 1.15, "pool": 1.6}
"""What a call may cost over several workers, as a multiple of what it costs over one."""
SETTINGS = {**QUIET, "TRIO_MCP_DRAIN_TIMEOUT": "0"}


@dataclass(frozen=True, slots=True)
class Node:
    """One that runs, and its sessions."""

    workers: int
    process: Served
    sessions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call."""

    micros: float
    """µs of processor time."""
    relayed: float
    """The share of calls that another worker has answered."""


Nodes = tuple[int, int]
"""How many, and the workers of each."""

Samples = Mapping[tuple[str, Nodes], Sequence[Cost]]
"""By kind of load and nodes, one for each round."""


def kept(node: Node, share: int, calls: int, chosen: random.Random) -> list[Line]:
    """What one of `share` nodes gets: a session for each connection."""
    return [(node.process.port, [each] * (calls // CLIENTS)) for each in chosen.sample(node.sessions, CLIENTS // share)]


def pool(node: Node, share: int, calls: int, chosen: random.Random) -> list[Line]:
    """The same, where each connection carries all sessions."""
    each = calls // CONNECTIONS
    return [(node.process.port, chosen.choices(node.sessions, k=each)) for _ in range(CONNECTIONS // share)]


KINDS = {"kept": kept, "pool": pool}


def cost(nodes: Sequence[Node], kind: str, calls: int, seed: int) -> Cost:
    """Of `calls` calls, spread over the nodes. Raises ServerFailed unless each was answered."""
    chosen = random.Random(seed)
    wanted = [line for node in nodes for line in KINDS[kind](node, len(nodes), calls, chosen)]
    before = _used(nodes)
    answers = make_calls(wanted)
    used = _used(nodes) - before
    made = sum(len(sessions) for _, sessions in wanted)
    if answers.right != made:
        raise ServerFailed(
            f"{answers.right} of {made} calls were answered, {answers.lost} found no session: {answers.wrong!r}"
        )
    return Cost(used / made * 1e6, answers.relayed / made)


def _used(nodes: Sequence[Node]) -> float:
    return sum(cpu_seconds(node.process.process.pid) for node in nodes)


def measure(rounds: int, calls: int, counts: Sequence[int]) -> Samples:
    """The costs of every kind of load over every number of workers, and over as many nodes of one worker."""
    samples: dict[tuple[str, Nodes], list[Cost]] = defaultdict(list)
    with ExitStack() as stack:
        single = [_node(stack, 1) for _ in range(max(counts))]
        groups: dict[Nodes, Sequence[Node]] = {(count, 1): single[:count] for count in (1, *counts)}
        groups |= {(1, workers): [_node(stack, workers)] for workers in counts if workers > 1}
        for kind, nodes in product(KINDS, groups.values()):
            cost(nodes, kind, calls, seed=0)
        for number, kind, (key, nodes) in product(range(rounds), KINDS, groups.items()):
            found = cost(nodes, kind, calls, seed=number + 1)
            samples[kind, key].append(found)
            relayed = f"{100 * found.relayed:.0f} % relayed"
            print(f"{number + 1}: {kind}, {_name(key)}: {found.micros:.0f} µs a call, {relayed}", flush=True)
    return samples


def _name(nodes: Nodes) -> str:
    count, workers = nodes
    return f"{count} nodes of 1 worker" if count > 1 else f"{workers} worker{'s' * (workers > 1)}"


def _node(stack: ExitStack, workers: int) -> Node:
    running = stack.enter_context(served((*OURS, "--workers", str(workers)), SETTINGS))
    _await_all(running.port, workers)
    return Node(workers, running, spread_sessions(running.port, SESSIONS))


def _await_all(port: int, workers: int) -> None:
    """Until all have accepted connections: they start one after the other. Raises ServerFailed."""
    boots: set[bytes] = set()
    deadline = time.monotonic() + READY_SECONDS
    while len(boots) < workers:
        if time.monotonic() > deadline:
            raise ServerFailed(f"{len(boots)} of {workers} workers have accepted a connection")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
        connection.request("GET", "/livez")
        boots.add(connection.getresponse().read().rpartition(b'"boot":')[2])
        connection.close()


def report(samples: Samples, others: str) -> str:
    """The table. Ratios are taken within each round."""
    rows = []
    for (kind, nodes), costs in samples.items():
        micros = statistics.median(each.micros for each in costs)
        relayed = statistics.median(each.relayed for each in costs)
        workers = nodes[1]
        ratios = [_ratio(costs, samples[kind, (1, 1)]), _ratio(costs, samples[kind, (workers, 1)])]
        wanted = [*ratios, f"at most {TARGETS[kind]}"] if workers > 1 else [ratios[0] if nodes[0] > 1 else "", "", ""]
        rows.append([f"{kind}, {_name(nodes)}", f"{micros:.0f}", f"{100 * relayed:.0f} %", *wanted])
    rows.append([f"mcp 2.3, uvicorn --workers 2: sessions that it does not find: {others}", *[""] * 5])
    return table(("load", "CPU µs a call", "relayed", "of one worker's", "of as many nodes'", "wanted"), rows)


def _ratio(many: Sequence[Cost], few: Sequence[Cost]) -> str:
    return f"{statistics.median(each.micros / other.micros for each, other in zip(many, few, strict=True)):.2f}"


def lost_by_the_official_sdk() -> str:
    """How many of its sessions `mcp` 2.3 does not find under uvicorn with two workers, asked for once, over new connections."""
    if not PYTHON.exists():
        return "not installed (make .cache/.bench)"
    with served((*UVICORN, "--workers", "2")) as node:
        sessions = spread_sessions(node.port, OF_OTHERS)
        answers = make_calls([(node.port, [session]) for session in sessions])
    return f"{answers.lost} of {len(sessions)}"


def main() -> int:
    """`python -m benchmarks.workers`."""
    ask = argparse.ArgumentParser(prog="benchmarks.workers", description="Measure what workers cost.")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--calls", type=int, default=20_000, help="for each figure")
    ask.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="how many")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    try:
        check()
        text = report(measure(given.rounds, given.calls, given.workers), lost_by_the_official_sdk())
    except (MissingTool, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{text}")
    if given.write:
        between(given.write, "workers", f"{today()}: {describe()}; the median of {given.rounds} rounds.\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
