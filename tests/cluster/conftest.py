"""What a test of the cluster has under it: a real Redis and real ports, or a store and a network in memory.

A module that sets `OVER_BOTH_STORES` runs over each; tests of it that only Redis can show are marked `only_redis`, with the reason.
One that sets `OVER_MEMORY` runs over the store in memory alone: the time of nodes that are gone is not waited for twice.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cluster.in_memory import in_memory, run_on_virtual_clock, virtual_clock
from tests.cluster.leaping import LeapingClock
from tests.rig.redis import RedisServer, redis_server
from trio_mcp.cluster.redis.client import RedisClient


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Empty, and killed after the test."""
    async with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisClient]:
    """With the timeouts that nodes have."""
    link = RedisClient(server.url)
    yield link
    link.close()


REDIS = pytest.param("redis", marks=[pytest.mark.sockets, pytest.mark.processes])
MEMORY = pytest.param("memory", marks=pytest.mark.trio(run=run_on_virtual_clock))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a module that sets `OVER_BOTH_STORES` runs twice."""
    if getattr(metafunc.module, "OVER_MEMORY", False):
        metafunc.parametrize("backend", [MEMORY], indirect=True)
    if getattr(metafunc.module, "OVER_BOTH_STORES", False):
        metafunc.parametrize("backend", [MEMORY, REDIS], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only Redis can show does not run over memory."""
    left_out = [each for each in items if each.get_closest_marker("only_redis") and _is_over_memory(each)]
    if left_out:
        items[:] = [each for each in items if each not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _is_over_memory(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.callspec.params.get("backend") == "memory"


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """ "memory" or "redis"."""
    kind: str = getattr(request, "param", "redis")
    if kind == "redis":
        yield kind
        return
    with in_memory():
        yield kind


@pytest.fixture
def clock(backend: str) -> object:
    """One that can leap."""
    return LeapingClock() if backend == "redis" else virtual_clock()
