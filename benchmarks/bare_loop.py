"""One core of this server beside the least that Trio can do for the same calls, and beside the official Python SDK.

The bare loop (`benchmarks/peers/bare_loop.py`) parses the head and the JSON, and answers. What this server takes longer is what its checks,
bounds, sessions and log cost. A share is the median of the shares of the rounds, in which the servers were visited right after each other.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import FIGURES, Figure, Figures, Options, WrongAnswer, open_sessions
from benchmarks.http_client import LEGACY, Connection, initialize
from benchmarks.machine import LOAD_CORE, MissingTool, busy, check, cpu_seconds, describe, resident
from benchmarks.servers import BARE_LOOP, BASELINE, PYTHON_SDK
from benchmarks.side_by_side import Samples, measure, medians, number
from tools.node import MissingNode
from tools.report import between, table, today
from tools.served import Served, ServerFailed

__all__ = ["SERVERS", "called", "openings", "report"]

SERVERS = (BASELINE, BARE_LOOP, PYTHON_SDK)
OPENED_BEFORE = 100
"""What the first sessions load stays out of the figure."""
WARM_UP_SECONDS = 1
OPENINGS, MEMORY = "new sessions/s, one by one", "KB per idle session that has made a call"
WANTED = {
    "legacy calls/s": f"at least 6 times {PYTHON_SDK.name}",
    "modern calls/s": f"at least 5 times {PYTHON_SDK.name}",
    MEMORY: "at most 10",
}


def openings(server: Served, options: Options) -> Figures:
    """Sessions opened by one client that waits for each, and what one keeps before its first call and after; raises `WrongAnswer`."""
    open_sessions(server, 1, OPENED_BEFORE)
    before, used = resident(server.process.pid), cpu_seconds(server.process.pid)
    opened = open_sessions(server, 1, options.sessions)
    used = cpu_seconds(server.process.pid) - used
    after = resident(server.process.pid)
    return {
        OPENINGS: opened.rate,
        "CPU µs per new session": 1e6 * used / opened.count,
        "KB per idle session": (after - before) / opened.count / 1000,
    }


def called(server: Served, options: Options) -> Figures:
    """What an idle session keeps that has made one call; raises `WrongAnswer`."""
    connection = Connection(server.port)
    for call in range(OPENED_BEFORE):
        _open_and_call(connection, call)
    before = resident(server.process.pid)
    for call in range(options.sessions):
        _open_and_call(connection, call)
    after = resident(server.process.pid)
    connection.close()
    return {MEMORY: (after - before) / options.sessions / 1000}


def _open_and_call(connection: Connection, call: int) -> None:
    session = connection.post(initialize()).session
    headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
    connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    params = {"name": "add", "arguments": {"a": call, "b": 3}}
    answer = connection.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers)
    if answer.status != 200 or f'"text":"{call + 3}"'.encode() not in answer.body.replace(b" ", b""):
        raise WrongAnswer(f"{call} + 3 gave {answer.status} {answer.body!r}")


MEASURED: Mapping[str, Figure] = {
    **{name: FIGURES[name] for name in ("legacy", "modern", "equal")},
    "openings": openings,
    "called": called,
}


def report(samples: Samples) -> str:
    """The medians of each server, and what share of the others' ours has, with the lowest and the highest of the rounds."""
    middle = medians(samples)
    others = [server for server in samples if server is not BASELINE]
    rows = []
    for key, ours in samples[BASELINE].items():
        figures = [number(middle[server].get(key)) for server in samples]
        shares = [_share(ours, samples[server].get(key, [])) for server in others]
        rows.append([key, *figures, *shares, WANTED.get(key, "")])
    heads = (f"{BASELINE.name} ÷ {server.name}" for server in others)
    return table(("figure", *(server.name for server in samples), *heads, "wanted"), rows)


def _share(ours: list[float], theirs: list[float]) -> str:
    """Of each round with itself: `0.84 (0.80 to 0.90)`."""
    found = [mine / other for mine, other in zip(ours, theirs, strict=False) if other]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "-"


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(
        prog="benchmarks.bare_loop", description="Compare one core of this server with a bare loop on Trio."
    )
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=2, help="of load for each figure")
    ask.add_argument("--sessions", type=int, default=2000, help="sessions to open")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    return ask.parse_args()


def main() -> int:
    """`python -m benchmarks.bare_loop`."""
    given = _arguments()
    options = Options(given.seconds, given.sessions, 0, 0, WARM_UP_SECONDS)
    try:
        check()
        load, started = busy(), time.monotonic()
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        text = report(measure(SERVERS, MEASURED, given.rounds, options))
    except (MissingTool, MissingNode, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{text}\n{time.monotonic() - started:.0f} s")
    if given.write:
        intro = (
            f"`python -m benchmarks.bare_loop` on {today()}: {describe()}; others kept {load:.1f} cores busy before; server on one "
            f"core, load on another; the median of {given.rounds} rounds of {given.seconds} s, and the lowest and the highest."
        )
        between(given.write, "bare loop", f"{intro}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
