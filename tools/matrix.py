"""Each official client behind each way of routing: many connections over three nodes, and how many worked."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from tests.rig.cluster import Cluster, cluster
from tests.rig.routing import VARIANTS
from tests.rig.scripts import MissingNode, client_environment, command
from tests.rig.traefik import MissingTraefik, Routed, Traefik, binary
from tests.rig.waiting import until
from tools.report import table, today, write

__all__ = ["CLIENTS", "CONNECTIONS", "Cell", "ClientUnderTest", "Matrix", "Relays", "document", "measure", "read"]

SCRIPTS = Path(__file__).resolve().parent.parent / "tests" / "rig" / "connections"
CONNECTIONS = 30
CLIENT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class ClientUnderTest:
    """A client to run, and the era it speaks."""

    name: str
    script: str
    mode: str

    @property
    def id(self) -> str:
        return f"{self.name} {self.mode}"


CLIENTS = (
    ClientUnderTest("Python mcp 2.3", "python_2_3.py", "legacy"),
    ClientUnderTest("Python mcp 2.3", "python_2_3.py", "auto"),
    ClientUnderTest("Python mcp 1.30", "python_1_30.py", "legacy"),
    ClientUnderTest("TypeScript sdk 1.32", "typescript_1_32.mjs", "legacy"),
    ClientUnderTest("TypeScript client 2.4", "typescript_2_4.mjs", "legacy"),
    ClientUnderTest("TypeScript client 2.4", "typescript_2_4.mjs", "auto"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One client behind one way of routing."""

    client: ClientUnderTest
    routing: str
    good: int
    of: int
    faults: Sequence[str]
    notification: str
    elicitation: str

    @property
    def complete(self) -> bool:
        """Whether everything worked."""
        return self.good == self.of and self.notification == "ok" and self.elicitation in ("ok", "-")


@dataclass(frozen=True, slots=True)
class Relays:
    """One way of routing: what its access log says must have been relayed, and what was."""

    routing: str
    requests: int
    """That named a session."""
    due: Sequence[Routed]
    """Those that came to another node than their session's."""
    done: Sequence[Routed]
    """Those whose response says that it was relayed."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Everything that was seen."""

    cells: Sequence[Cell]
    relays: Sequence[Relays]
    counted: int
    """Relays by the nodes' own metrics."""


async def measure(clients: Sequence[ClientUnderTest] = CLIENTS, connections: int = CONNECTIONS) -> Matrix:
    """Each client behind each way of routing, over one cluster."""
    async with cluster(routing=tuple(VARIANTS.values())) as parts:
        cells = [
            await _cell(client, routing, balancer, connections)
            for routing, balancer in zip(VARIANTS, parts.balancers, strict=True)
            for client in clients
        ]
        await until(lambda: _quiet(parts), "all sessions and streams have ended")
        relays = [_relays(parts, *each) for each in zip(VARIANTS, parts.balancers, strict=True)]
        counted = int(await parts.metric("trio_mcp_relays_total", outcome="relayed"))
        return Matrix(cells, relays, counted)


async def _cell(client: ClientUnderTest, routing: str, balancer: Traefik, connections: int) -> Cell:
    with trio.move_on_after(CLIENT_SECONDS):
        done = await trio.run_process(
            [*command(SCRIPTS / client.script), balancer.mcp_url, client.mode, str(connections)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=client_environment(),
        )
        return read(client, routing, connections, done)
    ending = f"the client did not end within {CLIENT_SECONDS} s"
    return Cell(client, routing, 0, connections, [ending], ending, ending)


def read(client: ClientUnderTest, routing: str, connections: int, done: subprocess.CompletedProcess[bytes]) -> Cell:
    """What a client said; one that crashed says how it ended."""
    lines = done.stdout.decode().strip().splitlines()
    try:
        said: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except ValueError:
        said = {}
    ending = f"not reached (exit {done.returncode}) {done.stderr.decode().strip()[-500:]}".strip()
    counted = said.get("connections", {"good": 0, "of": connections, "faults": [ending]})
    notification, elicitation = said.get("notification", ending), said.get("elicitation", ending)
    return Cell(client, routing, **counted, notification=notification, elicitation=elicitation)


async def _quiet(parts: Cluster) -> bool:
    """Traefik writes a stream's line when the stream ends."""
    before = sum(len(balancer.requests()) for balancer in parts.balancers)
    open_streams = await parts.metric("trio_mcp_streams_active")
    sessions = [await node.sessions() for node in parts.nodes]
    await trio.sleep(0.2)
    after = sum(len(balancer.requests()) for balancer in parts.balancers)
    return open_streams == 0 and not any(sessions) and before == after


def _relays(parts: Cluster, routing: str, balancer: Traefik) -> Relays:
    names = {url: name for name, url in parts.urls.items()}
    named = [request for request in balancer.requests() if request.session_id]
    due = [request for request in named if names.get(request.server) != request.owner]
    return Relays(routing, len(named), due, [request for request in named if request.relay])


def document(matrix: Matrix) -> str:
    """`docs/matrix.md`."""
    return (
        "# Routing matrix\n\n"
        f"`make matrix` on {today()}: three nodes on loopback, a real Traefik and a real Redis, TLS. Each client opens {CONNECTIONS}\n"
        "connections of 3 calls, every request over a TCP connection of its own. *Good* are those whose calls were all\n"
        "answered by one session. *Notification*: a GET or listen stream gets what was sent on each of the three nodes.\n"
        "*Elicitation*: a question of 2026-07-28 asked by one node, its answer taken by another. *legacy* is a session of\n"
        "2025-11-25, *auto* is what the client negotiates by itself: 2026-07-28.\n\n"
        f"{_cells(matrix)}\n"
        "A hyphen: a session's answers go to the node that asked.\n\n"
        "## Relays\n\n"
        "What Traefik's access log says must be relayed, requests that came to another node than the one in their session id,\n"
        "and what was.\n\n"
        f"{_relayed(matrix)}"
    )


def _cells(matrix: Matrix) -> str:
    rows = [
        [cell.client.name, cell.client.mode, cell.routing, f"{cell.good}/{cell.of}", *map(_verdict, _steps(cell))]
        for cell in matrix.cells
    ]
    return table(("client", "mode", "routing", "good", "notification", "elicitation"), rows)


def _steps(cell: Cell) -> tuple[str, str]:
    return cell.notification, cell.elicitation


def _verdict(said: str) -> str:
    return said if said in ("ok", "-") else "**no**"


def _relayed(matrix: Matrix) -> str:
    rows = [[row.routing, f"{row.requests:,}", f"{len(row.due):,}", f"{len(row.done):,}"] for row in matrix.relays]
    return table(("routing", "requests of sessions", "to another node", "relayed"), rows)


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description="Run the clients people use behind each way of routing.")
    ask.add_argument("--only", default="", help="clients whose name contains this")
    ask.add_argument("--write", type=Path, help="write the result to this Markdown file")
    return ask.parse_args()


def main() -> int:
    """`python -m tools.matrix`: 0 when everything worked for every client."""
    given = _arguments()
    clients = [client for client in CLIENTS if given.only.lower() in client.id.lower()]
    try:
        binary()
        for client in clients:
            command(SCRIPTS / client.script)
    except (MissingNode, MissingTraefik) as missing:
        print(missing, file=sys.stderr)
        return 1
    matrix = trio.run(measure, clients)
    print(_cells(matrix), _relayed(matrix), sep="\n")
    for cell in matrix.cells:
        if not cell.complete:
            print(f"{cell.client.id}, {cell.routing}: {cell.faults[:3]} {cell.notification} {cell.elicitation}")
    if given.write:
        write(given.write, document(matrix))
    return int(not all(cell.complete for cell in matrix.cells))


if __name__ == "__main__":
    sys.exit(main())
