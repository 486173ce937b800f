"""`python -m tools.roll [COMMIT]`: roll a cluster from an older commit to this checkout, or `--back`, under load, with restore.

Three nodes of COMMIT behind Traefik, with many clients and the official ones; then one node after the other is told to stop
and started anew from here, with `--workers` as several processes each (`--back`: three of this checkout, with them, started anew
from COMMIT). No call may fail, no client may open a second session, no call may run twice. Prints one line, and exits 1 when something was lost. The older checkout is a git worktree that is removed again; it runs with this one's packages.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from tests.rig.background_clients import BACKGROUND_CLIENTS, BackgroundClient, background_clients
from tests.rig.cluster import Cluster, cluster
from tests.rig.load import Load, load
from tests.rig.nodes import SERVER

__all__ = ["main"]

FIRST = "6cce482"
"""The commit whose records, tombstones and cards have another form."""

REPOSITORY = Path(__file__).resolve().parent.parent
FLAGS = ("--drain-delay", "3", "--drain-timeout", "12")
GONE_SECONDS = 60.0
"""For a node that was told to stop: several times what it may take."""


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit, in a worktree of their own."""
    with tempfile.TemporaryDirectory(prefix="roll-") as folder:
        path = Path(folder) / "old"
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def environment(root: Path) -> Mapping[str, str]:
    """What makes a node run the code there, wherever it is started from."""
    return {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}


def flags(workers: int) -> Sequence[str]:
    """Those of a node with so many workers; a release from before there were any does not know theirs."""
    return (*FLAGS, "--workers", str(workers)) if workers > 1 else FLAGS


def server_of(root: Path) -> Path:
    """The server of a checkout that the nodes serve."""
    return root / SERVER.relative_to(REPOSITORY)


async def roll(
    before: Path, after: Path, clients: int, python_only: bool, workers: tuple[int, int] = (1, 1)
) -> list[str]:
    """What was lost between two checkouts, whose nodes have so many workers; empty when all is well."""
    chosen = BACKGROUND_CLIENTS[:1] if python_only else BACKGROUND_CLIENTS
    async with cluster(
        restore=True, flags=flags(workers[0]), server=server_of(before), environment=environment(before)
    ) as standing:
        async with (
            background_clients(standing.url, chosen) as seen,
            load(standing.url, clients=clients, pause=1.0) as traffic,
        ):
            await traffic.settled()
            for name in [node.name for node in standing.nodes]:
                await _renew(standing, name, after, workers[1])
                await traffic.settled()
                print(f"{name} rolled; {traffic.summary()}", flush=True)
        return [*_lost(standing, traffic), *_missed(seen)]


async def _renew(standing: Cluster, name: str, root: Path, workers: int) -> None:
    node = standing.node(name)
    with trio.fail_after(GONE_SECONDS):
        code = await node.terminate()
    assert code == 0, f"{name} ended with {code}"
    node.target = server_of(root)
    node.environment = {**node.environment, **environment(root)}
    node.flags = ("--restore", *flags(workers))
    await node.start()


def _lost(standing: Cluster, traffic: Load) -> list[str]:
    found = [f"call failed: {call}" for call in traffic.failed]
    found += [f"session opened anew: {opening}" for opening in traffic.reopened]
    found += [f"stream broken: {stream}" for stream in traffic.streams if not stream.clean or stream.status != 200]
    found += [f"call {name} ran {count} times" for name, count in standing.runs().items() if count != 1]
    return found + [f"error in a log: {line}" for line in standing.logged('"level":"error"')]


def _missed(clients: list[BackgroundClient]) -> list[str]:
    return [f"client: {client}" for client in clients if client.failures or client.connects != 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("commit", nargs="?", default=FIRST)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--python-only", action="store_true", help="one official client, and no Node")
    parser.add_argument("--back", action="store_true", help="from this checkout to the commit")
    parser.add_argument("--workers", type=int, default=1, help="of each node of this checkout")
    given = parser.parse_args()
    with checkout(given.commit) as old:
        ends, workers = (old, REPOSITORY), (1, given.workers)
        if given.back:
            ends, workers = ends[::-1], workers[::-1]
        lost = trio.run(partial(roll, *ends, given.clients, given.python_only, workers))
    for each in lost[:20]:
        print(each)
    print(f"rolled {'back to' if given.back else 'from'} {given.commit}: {len(lost)} lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
