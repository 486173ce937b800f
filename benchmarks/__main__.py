"""Our server and the official SDKs, one after the other on the same core."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import FIGURES, Options, WrongAnswer
from benchmarks.machine import LOAD_CORE, MissingTool, allow_descriptors, busy, check, describe
from benchmarks.servers import BASELINE, SERVERS
from benchmarks.side_by_side import Results, measure, medians, number
from tools.node import MissingNode
from tools.report import between, table, today
from tools.served import ServerFailed

ONCE = {"streams"}
"""Figures that take long and vary little."""
QUIET_LOAD = 0.5
SMALLER_IS_BETTER = ("KB ", "% ")


def tables(results: Results) -> str:
    """The figures, and how many times better ours are."""
    keys = list(dict.fromkeys(key for found in results.values() for key in found))
    absolute = [[server.name, *(number(found.get(key)) for key in keys)] for server, found in results.items()]
    text = table(("server", *keys), absolute)
    if ours := results.get(BASELINE):
        peers = {server: found for server, found in results.items() if server is not BASELINE}
        rows = [[server.name, *(_ratio(key, ours, found) for key in keys)] for server, found in peers.items()]
        text += f"\nHow many times better `{BASELINE.name}` is than\n\n{table(('server', *keys), rows)}"
    return text


def _ratio(key: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    if key not in ours or key not in theirs or not ours[key] or not theirs[key]:
        return "-"
    better = theirs[key] / ours[key] if key.startswith(SMALLER_IS_BETTER) else ours[key] / theirs[key]
    return f"{better:.1f}"


def _page(text: str, given: argparse.Namespace) -> str:
    return (
        f"`make bench` on {today()}: {describe()}; server on one core, load (wrk, 32 connections) on another; the median "
        f"of {given.rounds} rounds of {given.seconds} s; {given.streams:,} open streams watched for {given.stream_seconds} s.\n\n{text}"
    )


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(prog="benchmarks", description="Compare this server with the official SDKs.")
    ask.add_argument("--only", default="", help="servers whose name contains this")
    ask.add_argument("--figures", default=",".join(FIGURES), help="comma-separated, of: %(default)s")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    ask.add_argument("--sessions", type=int, default=4000, help="sessions to open")
    ask.add_argument("--streams", type=int, default=5000, help="sessions with an open GET stream")
    ask.add_argument("--stream-seconds", type=int, default=30, help="how long to watch them")
    ask.add_argument("--write", type=Path, help="put the tables into this Markdown file")
    return ask.parse_args()


def main() -> int:
    """`python -m benchmarks`."""
    given = _arguments()
    options = Options(given.seconds, given.sessions, given.streams, given.stream_seconds)
    chosen = [server for server in SERVERS if given.only.lower() in server.name.lower()]
    try:
        check()
        allow_descriptors(given.streams + 200)
        if (load := busy()) > QUIET_LOAD:
            print(f"others keep {load:.1f} cores busy here: the figures will be off", file=sys.stderr)
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        figures = {name: FIGURES[name] for name in given.figures.split(",")}
        text = tables(medians(measure(chosen, figures, given.rounds, options, ONCE)))
    except (MissingTool, MissingNode, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{text}")
    if given.write:
        between(given.write, "figures", _page(text, given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
