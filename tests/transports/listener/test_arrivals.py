"""The tasks that serve connections from other processes, on a virtual clock and with connections that are none."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

import pytest
import trio

from trio_mcp.dispatch.dispatcher import KeptScope
from trio_mcp.transports.listener import arrivals as arrivals_module
from trio_mcp.transports.listener.arrivals import UNUSED_SECONDS, Arrivals
from trio_mcp.transports.listener.moving import Moved

_VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


class Served:
    """Serves connections until it is told how each ends."""

    def __init__(self, nursery: trio.Nursery, connected: socket.socket) -> None:
        self.arrivals = Arrivals(nursery, self._serve)
        self._connected = connected
        self._ends: dict[bytes, trio.Event] = {}
        self._goes_on: dict[bytes, bool] = {}
        self.tasks: dict[bytes, trio.lowlevel.Task] = {}
        self.found: dict[bytes, str] = {}

    async def come(self, *names: bytes) -> None:
        for name in names:
            self.arrivals.serve(Moved(self._connected, name, None, None))
        await trio.testing.wait_all_tasks_blocked()

    async def go(self, *names: bytes, on: bool = True) -> None:
        """These go on to another process, or else end."""
        for name in names:
            self._goes_on[name] = on
            self._ends[name].set()
        await trio.testing.wait_all_tasks_blocked()

    async def _serve(self, moved: Moved, kept: KeptScope) -> bool:
        name = moved.first
        self.tasks[name] = trio.lowlevel.current_task()
        self.found[name] = _VARIABLE.get()
        _VARIABLE.set("set by a request before")
        self._ends[name] = trio.Event()
        with kept.lend():
            await self._ends[name].wait()
        return self._goes_on[name]


@pytest.fixture
def connected() -> Iterator[socket.socket]:
    with socket.socket() as one:
        yield one


@pytest.fixture
async def served(connected: socket.socket, autojump_clock: trio.testing.MockClock) -> AsyncIterator[Served]:
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        yield Served(nursery, connected)
        nursery.cancel_scope.cancel("the test is over")


async def test_the_task_of_a_connection_that_has_gone_on_serves_the_next(served: Served) -> None:
    await served.come(b"1", b"2")
    await served.go(b"1")
    await served.come(b"3", b"4")
    assert served.tasks[b"3"] is served.tasks[b"1"]
    assert len({*served.tasks.values()}) == 3
    await served.go(b"3")
    await served.come(b"5")
    assert served.tasks[b"5"] is served.tasks[b"1"]


async def test_the_next_finds_no_variables_of_the_one_before(served: Served) -> None:
    await served.come(b"1")
    await served.go(b"1")
    await served.come(b"2")
    assert served.tasks[b"2"] is served.tasks[b"1"]
    assert served.found == {b"1": "unset", b"2": "unset"}


async def test_the_task_of_a_connection_that_was_closed_ends(served: Served) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    await served.come(b"1")
    await served.go(b"1", on=False)
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_no_more_than_so_many_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "MOST_WAITING", 2)
    before = trio.lowlevel.current_statistics().tasks_living
    await served.come(b"1", b"2", b"3")
    await served.go(b"1", b"2", b"3")
    assert trio.lowlevel.current_statistics().tasks_living == before + 2


async def test_those_that_are_not_needed_for_a_while_end(
    served: Served, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    nursery.start_soon(served.arrivals.run)
    await trio.testing.wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics().tasks_living
    await served.come(b"1", b"2", b"3")
    await served.go(b"1", b"2", b"3")
    for number in range(4):
        autojump_clock.jump(UNUSED_SECONDS)
        await served.come(b"%d again" % number)
        await served.go(b"%d again" % number)
    assert trio.lowlevel.current_statistics().tasks_living == before + 1, "one was needed all the time"
    autojump_clock.jump(2 * UNUSED_SECONDS)
    await trio.testing.wait_all_tasks_blocked()
    autojump_clock.jump(2 * UNUSED_SECONDS)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_at_the_end_none_waits(served: Served) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    await served.come(b"1", b"2")
    await served.go(b"1")
    served.arrivals.end()
    await served.go(b"2")
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_one_that_is_cancelled_is_given_no_connection(connected: socket.socket) -> None:
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        served = Served(nursery, connected)
        await served.come(b"1")
        await served.go(b"1")
        with trio.CancelScope(shield=True):
            nursery.cancel_scope.cancel("the server stops")
            served.arrivals.serve(Moved(connected, b"2", None, None))
            await trio.testing.wait_all_tasks_blocked()
        assert b"2" in served.tasks
        assert served.tasks[b"2"] is not served.tasks[b"1"]
        outer.cancel_scope.cancel("the test is over")
