"""How a node ends, whatever it is doing when it is told to."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rig.waiting import PATIENCE
from tests.serving.peer import connect, open_session
from trio_mcp import MCPServer
from trio_mcp.serving import node
from trio_mcp.serving.last_resort import Stage
from trio_mcp.serving.settings import load
from trio_mcp.sessions.stop_times import ALONE_SECONDS, CANCELLED_CALLS_SECONDS, MARGIN_SECONDS

pytestmark = pytest.mark.sockets

DRAIN, CLEANUP = 30.0, 5.0
WHOLE = DRAIN + CLEANUP + MARGIN_SECONDS
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
SIGNALS = (*STOPS, signal.SIGUSR1, signal.SIGUSR2)


Asked: TypeAlias = list[tuple[float, int, str]]


class Noted:
    """In place of the last resort: notes what it is asked for, and ends no test."""

    asked: ClassVar[Asked] = []

    def __init__(self, still_running: Callable[[], list[str]]) -> None:
        self.asked.clear()

    def end_within(self, seconds: float, code: int, stage: Stage) -> None:
        self.asked.append((round(seconds, 3), code, stage.name))

    def stand_down(self) -> None:
        pass


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The deadlines set: seconds, exit code and what the node is at."""
    monkeypatch.setattr(node, "LastResort", Noted)
    return Noted.asked


@pytest.fixture(autouse=True)
def undisturbed_signals() -> Iterator[None]:
    """Whatever the tests were started under (nohup ignores SIGHUP)."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS[2:]}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Running:
    """A node in a task of the test; `code` once it has ended."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.said: list[list[str]] = []
        """What it waited for, each time that it said where it answers."""
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.code: int | None = None

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2].partition("/")[0])

    def announce(self, urls: list[str], waits_for: Sequence[str]) -> None:
        self.urls = urls
        self.said.append([*waits_for])
        self.ready.set()

    async def run(self, server: MCPServer, /, *, owns_process: bool = False, **settings: Any) -> None:
        loaded = load(**{"port": 0, "drain_timeout": DRAIN, **settings})
        self.code = await node.serve(server, loaded, announce=self.announce, owns_process=owns_process)
        self.ended.set()


@asynccontextmanager
async def running(server: MCPServer, /, **settings: Any) -> AsyncIterator[Running]:
    found = Running()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(found.run, server, **settings))
            yield found
            await found.ended.wait()


async def test_a_signal_ends_a_start_that_waits(limits: Asked) -> None:
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
    assert limits == [(WHOLE, 0, "START")]


async def test_a_signal_that_comes_while_it_begins_to_listen_is_no_failure(
    limits: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_front(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    monkeypatch.setattr(node, "open_front", open_front)
    async with running(MCPServer("x")) as found:
        await found.ended.wait()
    assert found.code == 0
    assert {code for _, code, _ in limits} == {0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
async def test_a_stop_is_timed_as_a_whole_from_the_signal_on_and_then_step_by_step(
    number: signal.Signals, limits: Asked
) -> None:
    cleaned = list[str]()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        yield
        cleaned.append("up")

    before = [signal.getsignal(each) for each in SIGNALS]
    async with running(MCPServer("x", lifespan=lifespan)) as found:
        await found.ready.wait()
        signal.raise_signal(number)
        assert {signal.getsignal(each) for each in STOPS} == {signal.SIG_DFL}
    assert limits == [
        (WHOLE, 1, "CALLS"),
        (CANCELLED_CALLS_SECONDS + ALONE_SECONDS, 1, "CALLS"),
        (CLEANUP + 0.3, 1, "CLEANUP"),
        (1.1, 0, "END"),
    ]
    assert (found.code, cleaned) == (0, ["up"])
    assert [signal.getsignal(each) for each in SIGNALS] == before


async def test_a_cleanup_that_takes_too_long_is_cancelled_logged_and_shown_by_the_exit_code(
    limits: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    ends = list[str]()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        yield
        try:
            await trio.sleep_forever()
        finally:
            ends.append("cancelled")

    async with running(MCPServer("x", lifespan=lifespan), cleanup_timeout=0.1) as found:
        await found.ready.wait()
        signal.raise_signal(signal.SIGTERM)
    assert (found.code, ends) == (1, ["cancelled"])
    (line,) = (record for record in caplog.records if record.message == "cleanup cut short")
    assert "nursery.cancel_scope.cancel()" in line.__dict__["mcp_fields"]["hint"]


async def test_the_time_of_a_cleanup_counts_from_when_the_calls_have_ended(limits: Asked) -> None:
    server, called, ends = MCPServer("x", lifespan=_slow_cleanup), trio.Event(), list[str]()

    @server.tool
    async def work() -> None:
        called.set()
        try:
            await trio.sleep_forever()
        finally:
            ends.append("call")

    async with running(server, drain_timeout=0.0) as found:
        await found.ready.wait()
        session = await open_session(found.port)
        async with connect(found.port) as peer:
            await peer.tool(session, 1, "work")
            await called.wait()
            signal.raise_signal(signal.SIGTERM)
            await found.ended.wait()
    assert ends == ["call"]
    assert [stage for _, _, stage in limits] == ["CALLS", "CALLS", "CLEANUP", "END"]
    assert found.code == 0


@asynccontextmanager
async def _slow_cleanup(_: MCPServer) -> AsyncIterator[None]:
    yield
    for _step in range(10):
        await trio.lowlevel.checkpoint()


async def test_signals_that_user_code_handles_or_ignores_stay_so(limits: Asked) -> None:
    taken: dict[signal.Signals, Any] = {
        signal.SIGHUP: signal.SIG_IGN,
        signal.SIGQUIT: _heard,
        signal.SIGUSR1: _heard,
        signal.SIGUSR2: _heard,
    }
    before = {number: signal.signal(number, handler) for number, handler in taken.items()}
    try:
        async with running(MCPServer("x")) as found:
            await found.ready.wait()
            assert {number: signal.getsignal(number) for number in taken} == taken
            signal.raise_signal(signal.SIGTERM)
            assert {number: signal.getsignal(number) for number in taken} == taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard(number: int, frame: object) -> None:
    """A handler of the user's."""


async def test_usr1_logs_everything_and_again_as_before_and_usr2_does_nothing(limits: Asked) -> None:
    root = logging.getLogger()
    level = root.level
    async with running(MCPServer("x")) as found:
        await found.ready.wait()
        signal.raise_signal(signal.SIGUSR2)
        assert root.level == level
        signal.raise_signal(signal.SIGUSR1)
        assert root.level == logging.DEBUG
        signal.raise_signal(signal.SIGUSR1)
        assert root.level == level
        signal.raise_signal(signal.SIGTERM)


async def test_the_clock_runs_from_the_admins_drain_on_and_a_signal_behind_it_is_the_first(
    limits: Asked, tmp_path: Path
) -> None:
    server, called, go = MCPServer("x"), trio.Event(), trio.Event()

    @server.tool
    async def wait() -> None:
        called.set()
        await go.wait()

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
            assert limits == [(WHOLE, 0, "CALLS")]
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            signal.raise_signal(signal.SIGTERM)
            await wait_all_tasks_blocked()
            assert not found.ended.is_set()
            assert limits == [(WHOLE, 0, "CALLS")]
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            go.set()
            await found.ended.wait()
    assert found.code == 0


async def test_a_crash_of_the_lifespan_limits_the_end_too(limits: Asked) -> None:
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
    assert limits[:2] == [(DRAIN + CANCELLED_CALLS_SECONDS, 1, "CALLS"), (CLEANUP + 0.3, 1, "CLEANUP")]


async def test_a_lifespan_that_cancels_the_node_of_a_process_is_a_failure(
    limits: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else is there who could have wanted it; without the line the process would end without a word."""
    gone = trio.Event()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        async def watch() -> None:
            await gone.wait()
            nursery.cancel_scope.cancel("the database is gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            yield

    async with running(MCPServer("x", lifespan=lifespan), owns_process=True) as found:
        await found.ready.wait()
        gone.set()
    assert found.code == 1
    (line,) = (record for record in caplog.records if record.message == "the node fails")
    assert line.__dict__["mcp_fields"] == {"why": "the database is gone"}


@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_no_unix_socket_is_left_behind(front: str, limits: Asked, tmp_path: Path) -> None:
    paths = [tmp_path / "public", tmp_path / "admin"]
    binds = [f"unix:{path}" for path in paths]
    async with running(MCPServer("x"), bind=binds[0], admin_bind=binds[1], server=front) as found:
        await found.ready.wait()
        assert all(path.exists() for path in paths)
        signal.raise_signal(signal.SIGTERM)
    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_a_client_that_stops_reading_is_cut_by_the_write_timeout(front: str, limits: Asked) -> None:
    server, answered = MCPServer("x"), trio.Event()

    @server.tool
    async def flood() -> str:
        answered.set()
        return "x" * 8_000_000

    # A window that nobody waits for to end: the node is empty when the connection is gone.
    async with running(server, server=front, write_timeout=0.2, drain_timeout=600.0) as found:
        await found.ready.wait()
        async with connect(found.port) as stalled:
            await stalled.modern(1, "tools/call", {"name": "flood", "arguments": {}}, "flood")
            await answered.wait()
            signal.raise_signal(signal.SIGTERM)
            await found.ended.wait()
    assert found.code == 0
