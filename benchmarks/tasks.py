"""How long a user waits for a task of two seconds, and for one that asks a question which is answered at once; what tasks cost.

    python -m benchmarks.tasks [--rounds 5] [--write docs/performance.md]

Two requesters, the official one of TypeScript and FastMCP's client, against our server and FastMCP's own, beside each other in
each round: what it shows is how often a client is told to poll, not how fast a machine is. The costs come after that (`task_costs`).
"""

import argparse
import os
import statistics
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks import task_costs
from benchmarks.figures import WrongAnswer
from benchmarks.machine import LOAD_CORE, MissingTool, check, describe
from tools.clients import FASTMCP_TASKS
from tools.node import MissingNode
from tools.report import between, table, today
from tools.served import EVERYTHING, ServerFailed, served
from tools.task_clients import TASK_CLIENTS, TIMED, run

PEER = Path(__file__).parent / "peers" / "fastmcp_tasks_server.py"
SERVERS = {"trio-mcp": EVERYTHING, "FastMCP": (str(FASTMCP_TASKS), str(PEER), "{port}")}

Key = tuple[str, str]
"""Server and requester."""


def measure(rounds: int) -> dict[Key, dict[str, float]]:
    """The median seconds of each step."""
    seen: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        urls = {name: stack.enter_context(served(start)).url for name, start in SERVERS.items()}
        for _ in range(rounds):
            runs = {
                (name, client): threads.submit(run, client, urls[name], timed=True)
                for name in urls
                for client in TASK_CLIENTS
            }
            for (name, client), waited in runs.items():
                for step, seconds in waited.result().seconds.items():
                    seen[name, client.name][step].append(seconds)
                    print(f"{name:10} {client.name:26} {step:10} {seconds:6.2f} s", flush=True)
    return {key: {step: statistics.median(times) for step, times in steps.items()} for key, steps in seen.items()}


def page(found: dict[Key, dict[str, float]]) -> str:
    """A line for each server and requester; a hyphen where a step gave no time."""
    rows = [
        [server, client, *(f"{seconds[step]:.1f} s" if step in seconds else "-" for step in TIMED)]
        for (server, client), seconds in found.items()
    ]
    return table(("server", "requester", "a tool of 2 s", "a question answered at once"), rows)


def _rounds(rounds: int) -> str:
    return "one round" if rounds == 1 else f"the median of {rounds} rounds"


def main() -> int:
    """`python -m benchmarks.tasks`."""
    ask = argparse.ArgumentParser(prog="benchmarks.tasks", description=__doc__)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--seconds", type=float, default=2.0, help="to watch the event loop, for each figure")
    ask.add_argument("--tasks", type=int, default=1000, help="that are looked for on each of three nodes")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    try:
        check()
        waits = page(measure(given.rounds))
        found, through_redis = task_costs.across_nodes(given.tasks)
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        text = f"{waits}\n{task_costs.page(task_costs.costs(given.rounds, given.seconds) | through_redis, found)}"
    except (MissingNode, MissingTool, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(text)
    if given.write:
        intro = f"`python -m benchmarks.tasks` on {today()}: {describe()}; {_rounds(given.rounds)}."
        between(given.write, "tasks", f"{intro}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
