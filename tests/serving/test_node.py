"""How a node ends, whatever it is doing when it is told to."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rig.waiting import PATIENCE
from tests.serving.peer import connect, open_session
from trio_mcp import MCPServer
from trio_mcp.serving import node
from trio_mcp.serving.settings import load

pytestmark = pytest.mark.sockets

DRAIN = 30.0


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """The last resorts set up: seconds and exit code. None of them ends the tests."""
    asked: list[tuple[float, int]] = []

    @contextmanager
    def noted(seconds: float, code: int, still_running: Callable[[], list[str]]) -> Iterator[None]:
        asked.append((seconds, code))
        yield

    monkeypatch.setattr(node, "no_longer_than", noted)
    return asked


class Running:
    """A node in a task of the test; `code` once it has ended."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.code: int | None = None

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2].partition("/")[0])

    def announce(self, urls: list[str]) -> None:
        self.urls = urls
        self.ready.set()

    async def run(self, server: MCPServer, /, **settings: Any) -> None:
        loaded = load(port=0, drain_timeout=DRAIN, **settings)
        self.code = await node.serve(server, loaded, announce=self.announce)
        self.ended.set()


@asynccontextmanager
async def running(server: MCPServer, /, **settings: Any) -> AsyncIterator[Running]:
    found = Running()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(found.run, server, **settings))
            yield found
            await found.ended.wait()


async def test_a_signal_ends_a_start_that_waits(limits: list[tuple[float, int]]) -> None:
    starting = trio.Event()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        starting.set()
        await trio.Event().wait()
        yield

    async with running(MCPServer("x", lifespan=lifespan)) as found:
        await starting.wait()
        signal.raise_signal(signal.SIGTERM)
    assert (found.code, found.ready.is_set()) == (0, False)
    assert limits == [(DRAIN + node.LAST_RESORT_SECONDS, 0)]


async def test_what_is_left_of_the_window_belongs_to_the_cleanup_of_the_lifespan(
    limits: list[tuple[float, int]],
) -> None:
    async with running(MCPServer("x")) as found:
        await found.ready.wait()
        signal.raise_signal(signal.SIGTERM)
    ((seconds, code),) = limits
    assert DRAIN - 5 < seconds <= DRAIN + node.LAST_RESORT_SECONDS
    assert code == found.code == 0


async def test_a_signal_after_the_admins_drain_is_the_first_and_another_the_second(
    limits: list[tuple[float, int]], tmp_path: Path
) -> None:
    server, called = MCPServer("x"), trio.Event()

    @server.tool
    async def wait() -> None:
        called.set()
        await trio.sleep_forever()

    async with running(server, admin_bind=f"unix:{tmp_path / 'admin'}") as found:
        await found.ready.wait()
        session = await open_session(found.port)
        async with connect(found.port) as peer:
            await peer.tool(session, 1, "wait")
            await called.wait()
            async with await trio.open_unix_socket(tmp_path / "admin") as admin:
                await admin.send_all(b"POST /drain HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
                assert b" 202 " in await admin.receive_some()
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            await wait_all_tasks_blocked()
            assert not found.ended.is_set()
            signal.raise_signal(signal.SIGTERM)
            await found.ended.wait()
    assert found.code == 128 + signal.SIGTERM
    assert limits[0] == (node.LAST_RESORT_SECONDS, found.code)


async def test_a_crash_of_the_lifespan_limits_the_end_too(limits: list[tuple[float, int]]) -> None:
    crash = trio.Event()

    async def fail() -> None:
        await crash.wait()
        raise LookupError("the pool is gone")

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError), allow_unwrapped=True, flatten_subgroups=True):
        async with running(MCPServer("x", lifespan=lifespan)) as found:
            await found.ready.wait()
            crash.set()
    assert limits == [(DRAIN + node.LAST_RESORT_SECONDS, 1)]


@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_no_unix_socket_is_left_behind(front: str, limits: list[tuple[float, int]], tmp_path: Path) -> None:
    paths = [tmp_path / "public", tmp_path / "admin"]
    binds = [f"unix:{path}" for path in paths]
    async with running(MCPServer("x"), bind=binds[0], admin_bind=binds[1], server=front) as found:
        await found.ready.wait()
        assert all(path.exists() for path in paths)
        signal.raise_signal(signal.SIGTERM)
    assert not any(path.exists() for path in paths)
