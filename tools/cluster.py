"""`make cluster`: Redis, three nodes and Traefik on loopback, and what to try on them."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import trio

from tests.rig.cluster import Cluster, cluster
from tests.rig.nodes import SERVER, Node
from tests.rig.routing import header_routes, shipped
from tests.rig.traefik import MissingTraefik, binary

__all__ = ["guide", "main"]

LOOK_SECONDS = 0.2


def guide(parts: Cluster) -> str:
    """Print the URLs, and commands to try."""
    command = Path(sys.executable).parent / "trio-mcp"
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    nodes = [f"  {node.name}   {node.url}   admin {node.admin}   pid {node.process.pid}" for node in parts.nodes]
    victim = parts.nodes[-1]
    tries = {
        f"{shown} check {parts.url} --insecure": "do all nodes answer every client?",
        f"{shown} call {parts.url} where --insecure": "who answers?",
        f"{shown} sessions --redis-url {parts.redis.url}": "who is where?",
        f"curl -k {parts.traefik.url}/graphql": "what is not MCP goes round",
        f"curl {victim.admin}/metrics": "",
        f"{shown} drain 127.0.0.1:{victim.admin_port}": f"{victim.name} hands over and ends",
        f"kill -9 {victim.process.pid}": f"{victim.name} is gone at once",
    }
    width = max(map(len, tries))
    return "\n".join(
        [
            f"MCP      {parts.url}   over TLS; the certificate is Traefik's own",
            f"not MCP  {parts.traefik.url}/graphql",
            f"Traefik  {parts.traefik.api}/api/http/routers",
            f"Redis    {parts.redis.url}",
            *nodes,
            "",
            "Try",
            *(f"  {each.ljust(width)}   {why}".rstrip() for each, why in tries.items()),
            "",
            "Enter starts the nodes again that ended. Ctrl+C stops everything.",
        ]
    )


async def _serve(given: argparse.Namespace) -> None:
    routing = header_routes if given.header_routes else shipped
    async with cluster(given.nodes, restore=given.restore, server=given.server, routing=(routing,)) as parts:
        print(guide(parts), flush=True)
        async with trio.open_nursery() as nursery:
            for node in parts.nodes:
                nursery.start_soon(_watch, node, given.logs)
            nursery.start_soon(_start_again, parts)
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel("a signal came")
    print("\nstopped")


async def _watch(node: Node, logs: bool) -> None:
    """Print when its process ends and, with `logs`, all that it logs."""
    shown, told = 0, 0
    while True:
        lines = node.lines[shown:]
        shown += len(lines)
        if logs:
            print(*(f"{node.name} {line}" for line in lines), sep="\n", end="\n" if lines else "", flush=True)
        if not node.alive and told < len(node.runs):
            told = len(node.runs)
            print(f"{node.name} ended with {node.process.returncode}. Enter starts it again.", flush=True)
        await trio.sleep(LOOK_SECONDS)


async def _start_again(parts: Cluster) -> None:
    """Start the nodes that have ended, at each line typed on the terminal."""
    # In a thread: Trio's own reading would make the terminal non-blocking for all processes that share it.
    while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        for node in parts.nodes:
            if not node.alive:
                await node.start()
                print(f"{node.name} is back, pid {node.process.pid}", flush=True)


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description="A cluster on loopback: Redis, nodes, Traefik.")
    ask.add_argument("--nodes", type=int, default=3, help="how many")
    ask.add_argument("--restore", action="store_true", help="another node takes up the sessions of one that is gone")
    ask.add_argument("--header-routes", action="store_true", help="Traefik routes by the node in the session id")
    ask.add_argument("--server", type=Path, default=SERVER, help="what to serve instead of the demo")
    ask.add_argument("--logs", action="store_true", help="show what the nodes log")
    return ask.parse_args()


def main() -> int:
    """`python -m tools.cluster`: 0 after a signal."""
    given = _arguments()
    try:
        binary()
    except MissingTraefik as missing:
        print(missing, file=sys.stderr)
        return 1
    trio.run(_serve, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
