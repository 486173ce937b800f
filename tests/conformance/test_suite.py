"""The official conformance suite, on each front."""

from collections.abc import Iterator

import pytest

from tools.conformance import RUNS, Run, conform
from tools.served import FRONTS, Served, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(scope="module", params=sorted(FRONTS))
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(FRONTS[request.param]) as server:
        yield server


@pytest.mark.requirement("tasks-44")
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_suite_finds_no_failure_and_no_warning(server: Served, run: Run) -> None:
    assert conform(run, server.url).faults == []
