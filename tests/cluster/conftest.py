"""What the tests of the link to Redis share: a server of their own, and a link to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
