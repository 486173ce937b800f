"""The suite's scenarios of tasks against three nodes behind Traefik, which sends each request to the next one."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.cluster import Cluster, cluster
from tools.conformance import Run, conform

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

EVERYTHING = Path(__file__).parents[3] / "examples" / "everything.py"
SCENARIOS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)
OWN_CERTIFICATE = {"NODE_TLS_REJECT_UNAUTHORIZED": "0"}
"""Traefik's, which nobody has signed."""


async def faults(found: Cluster, scenario: str) -> list[str]:
    run = Run(scenario, ("--scenario", scenario, "--spec-version", "2026-07-28", "--force"), 1)
    outcome = await trio.to_thread.run_sync(partial(conform, run, found.url, OWN_CERTIFICATE))
    return [*outcome.faults, *([] if outcome.counts["SUCCESS"] >= 2 else [f"{scenario}: nothing was checked"])]


@pytest.mark.requirement("tasks-44", "tasks-9")
async def test_a_client_of_three_nodes_sees_one_server() -> None:
    found: dict[str, list[str]] = {}
    async with cluster(server=EVERYTHING) as nodes:

        async def visit(scenario: str) -> None:
            found[scenario] = await faults(nodes, scenario)

        async with trio.open_nursery() as nursery:
            for scenario in SCENARIOS:
                nursery.start_soon(visit, scenario)
        asked = Counter(each.server for each in nodes.traefik.requests() if each.method == "POST")
    assert found == {scenario: [] for scenario in SCENARIOS}
    assert len(asked) == 3
    assert min(asked.values()) > 20, "each node had its share"
