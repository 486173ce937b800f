"""What the tests over real parts share: a cluster for those that break nothing of it, clients that are closed in the end."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.rig.client import LegacyClient, NewClient, OpenClient
from tests.rig.cluster import Cluster
from tests.rig.routing import patient, shipped
from tests.rig.shared import shared_cluster


@pytest.fixture(scope="module")
def standing() -> Iterator[Cluster]:
    """Three nodes behind the shipped configuration, restore off; for tests that stop no part of it.

    It ends with its module: a cluster that only stands there takes a tenth of a core.
    """
    with shared_cluster(routing=[patient(shipped)]) as cluster:
        yield cluster


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients, as `LegacyClient(url, cookies=…)` does, and closes them after the test."""
    made: list[LegacyClient] = []

    def make(url: str, *, cookies: bool = True, fresh: bool = False) -> LegacyClient:
        made.append(LegacyClient(url, cookies=cookies, fresh=fresh))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
async def open_client(new_client: NewClient) -> OpenClient:
    """Makes a client and opens its session."""

    async def make(url: str, *, cookies: bool = True, fresh: bool = False) -> LegacyClient:
        client = new_client(url, cookies=cookies, fresh=fresh)
        answer = await client.initialize()
        assert not answer.error, answer
        return client

    return make
