"""What a cluster costs: a relayed call against a direct one, a session that is recorded against one that is not.

Two nodes, each on a core of its own; the load shares the relaying node's. Redis runs where the system puts it. Each round
measures both sides of a ratio, one right after the other.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.figures import SessionsOpened, WrongAnswer, calls_per_second, open_session, open_sessions
from benchmarks.machine import LOAD_CORE, SERVER_CORE, MissingTool, check, cpu_seconds, describe, pinned
from benchmarks.servers import OURS, QUIET
from tests.rig.ports import free_ports
from tools.report import between, table, today
from tools.served import Served, ServerFailed, served

AT_ONCE = 32
ONE_BY_ONE = 400
REDIS_SECONDS = 10.0

Samples = dict[str, list[float]]

TARGETS = {
    "relayed ÷ direct calls": "at least 0.4",
    "CPU added per relayed call, µs": "at most 110",
    f"sessions opened, {AT_ONCE} at once, with ÷ without Redis": "at least 0.7",
    "one session opened with Redis, ms more": "at most 1",
}


@contextmanager
def redis() -> Iterator[str]:
    """A redis-server on loopback that keeps nothing; its URL. Raises `MissingTool`."""
    found = shutil.which("redis-server")
    if found is None:
        raise MissingTool("the cluster's figures need redis-server. Install it with: sudo apt-get install redis-server")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _await_redis(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _await_redis(port: int) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    ping = ["redis-cli", "-p", str(port), "ping"]
    while subprocess.run(ping, capture_output=True, check=False).stdout.strip() != b"PONG":
        if time.monotonic() > deadline:
            raise ServerFailed("redis-server does not answer")
        time.sleep(0.05)


def _settings(url: str | None) -> Mapping[str, str]:
    """Stop without a drain: there are no clients left."""
    shared = {**QUIET, "TRIO_MCP_DRAIN_DELAY": "0", "TRIO_MCP_DRAIN_TIMEOUT": "0"}
    return shared if url is None else {**shared, "TRIO_MCP_REDIS_URL": url, "TRIO_MCP_SECRET": "b" * 43}


def relaying(url: str, seconds: int, into: Samples) -> None:
    """Calls to a session's own node, then the same through the other one."""
    settings = _settings(url)
    with ExitStack() as stack:
        owner = stack.enter_context(served(pinned(OURS, SERVER_CORE), {**settings, "TRIO_MCP_NODE_ID": "owner"}))
        other = stack.enter_context(served(pinned(OURS, LOAD_CORE), {**settings, "TRIO_MCP_NODE_ID": "other"}))
        session = open_session(owner)
        direct, direct_cpu = _calls(owner, seconds, session, (owner,))
        relayed, relayed_cpu = _calls(other, seconds, session, (owner, other))
    into["direct calls/s"].append(direct)
    into["relayed calls/s"].append(relayed)
    into["relayed ÷ direct calls"].append(relayed / direct)
    into["CPU added per relayed call, µs"].append((relayed_cpu - direct_cpu) * 1e6)


def _calls(asked: Served, seconds: int, session: str, working: tuple[Served, ...]) -> tuple[float, float]:
    """Calls per second, and the processor seconds one took on the nodes that worked for it."""
    calls_per_second(asked, 1, "add", session)
    before = sum(cpu_seconds(node.process.pid) for node in working)
    rate = calls_per_second(asked, seconds, "add", session, warm_up=0)
    return rate, (sum(cpu_seconds(node.process.pid) for node in working) - before) / (rate * seconds)


def opening(url: str, sessions: int, into: Samples) -> None:
    """Sessions opened with Redis and without, many at once and one by one."""
    found: dict[str | None, tuple[SessionsOpened, SessionsOpened]] = {}
    for each in (None, url):
        with served(pinned(OURS), _settings(each)) as node:
            found[each] = (open_sessions(node, AT_ONCE, sessions), open_sessions(node, 1, ONE_BY_ONE))
    (many, one), (many_recorded, one_recorded) = found[None], found[url]
    into["sessions/s"].append(many.rate)
    into["sessions/s with Redis"].append(many_recorded.rate)
    into[f"sessions opened, {AT_ONCE} at once, with ÷ without Redis"].append(many_recorded.rate / many.rate)
    into["one session opened with Redis, ms more"].append((one_recorded.median - one.median) * 1000)


def measure(rounds: int, seconds: int, sessions: int) -> dict[str, float]:
    """The median of each figure."""
    samples: Samples = defaultdict(list)
    for _ in range(rounds):
        with redis() as url:
            relaying(url, seconds, samples)
            opening(url, sessions, samples)
        for name, seen in samples.items():
            print(f"{name:60} {seen[-1]:12,.2f}", flush=True)
    return {name: statistics.median(seen) for name, seen in samples.items()}


def report(figures: Mapping[str, float]) -> str:
    """A table of the figures, with what is asked of each."""
    rows = [
        [name, f"{value:,.0f}" if value >= 100 else f"{value:.2f}", TARGETS.get(name, "")]
        for name, value in figures.items()
    ]
    return table(("figure", "measured", "wanted"), rows)


def main() -> int:
    """`python -m benchmarks.cluster`."""
    ask = argparse.ArgumentParser(prog="benchmarks.cluster", description="Measure what a cluster costs.")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    ask.add_argument("--sessions", type=int, default=4000, help="sessions to open")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    try:
        check()
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        text = report(measure(given.rounds, given.seconds, given.sessions))
    except (MissingTool, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{text}")
    if given.write:
        intro = f"`make bench` on {today()}: {describe()}; the median of {given.rounds} rounds of {given.seconds} s."
        between(given.write, "cluster", f"{intro}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
