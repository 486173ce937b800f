"""Servers one after the other on the same core, in rounds.

For each figure every server is visited in turn, so the machine's drift hits all alike; a figure is the median of the rounds.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from benchmarks.figures import Figure, Options
from benchmarks.machine import pinned
from benchmarks.servers import Server, command
from tools.served import served

__all__ = ["Results", "Samples", "measure", "medians", "number"]

Samples = dict[Server, dict[str, list[float]]]
"""What each round gave, by server and figure."""
Results = dict[Server, dict[str, float]]


def measure(
    servers: Sequence[Server],
    figures: Mapping[str, Figure],
    rounds: int,
    options: Options,
    once: Collection[str] = (),
) -> Samples:
    """Take each figure of each server that has it; those of `once` in the first round alone.

    Raises `MissingNode` before any is started, when one is not installed.
    """
    commands = {server: pinned(command(server)) for server in servers}
    samples: Samples = {server: defaultdict(list) for server in servers}
    for turn in range(rounds):
        for name in (name for name in figures if turn == 0 or name not in once):
            for server in (server for server in servers if name in server.figures):
                # A fresh process for each figure: no figure inherits the memory of another.
                with served(commands[server], server.environment) as running:
                    found = figures[name](running, options)
                for key, value in found.items():
                    print(f"{server.name:30} {key:36} {value:12,.1f}", flush=True)
                    samples[server][key].append(value)
    return samples


def medians(samples: Samples) -> Results:
    """The median of each figure of each server."""
    return {server: {key: statistics.median(seen) for key, seen in found.items()} for server, found in samples.items()}


def number(value: float | None) -> str:
    """A figure as it stands in a table."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
