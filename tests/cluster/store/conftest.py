"""Two nodes' ways to one store: in memory, in another process' memory, and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.cluster.store.both import Both, in_memory, in_redis, linked
from tests.rig.ports import free_ports
from tests.rig.redis import RedisServer

__all__: list[str] = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests here, started by the first that wants it: to start one takes longer than a test."""
    port = free_ports(1)[0]
    made = RedisServer(tmp_path_factory.mktemp("redis") / "data", port, ["--port", str(port), "--save", ""])
    yield made
    trio.run(made.stop)


@pytest.fixture(
    params=["memory", "linked", pytest.param("redis", marks=[pytest.mark.sockets, pytest.mark.processes])],
)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    """Empty."""
    if request.param == "memory":
        yield in_memory()
        return
    if request.param == "linked":
        async with trio.open_nursery() as nursery:
            yield linked(nursery)
            nursery.cancel_scope.cancel("the test is over")
        return
    server: RedisServer = request.getfixturevalue("server")
    if server._process is None:
        await server.start()
    await server.ask("FLUSHALL")
    made = in_redis(server)
    yield made
    made.here.close()
    made.there.close()
