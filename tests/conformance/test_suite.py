"""The official conformance suite, on each front."""

from collections.abc import Iterator

import pytest

from tests.serving.process import WORKERS
from tools.conformance import RUNS, Run, conform
from tools.served import FRONTS, Served, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

OF_ONE_WORKER = "tools-list-deterministic-order"
"""The server registers a tool while it runs, which is then on one worker alone: docs/workers.md."""


@pytest.fixture(scope="module", params=sorted(FRONTS))
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(FRONTS[request.param]) as server:
        yield server


@pytest.mark.requirement("tasks-44")
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_suite_finds_no_failure_and_no_warning(server: Served, run: Run) -> None:
    assert [fault for fault in conform(run, server.url).faults if not (WORKERS > 1 and OF_ONE_WORKER in fault)] == []
