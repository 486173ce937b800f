"""Those who wait until no call runs, or no exchange is open: each hears of the end, however many wait and whatever begins meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rig.waiting import PATIENCE
from tests.transports.http.harness import serving
from trio_mcp import MCPServer

WAYS = ["exchanges", "calls"]
WAITERS = 3


@pytest.mark.parametrize("what", WAYS)
async def test_any_number_may_wait_for_the_last_to_end(what: str) -> None:
    await hears_of_the_end(what, begins_anew=False)


# Which of the tasks that become runnable at once is first is chance; one round in three or so finds a waiter that is forgotten.
@pytest.mark.parametrize("what", WAYS)
async def test_one_that_begins_as_the_last_ends_leaves_no_waiter_behind(what: str) -> None:
    for _ in range(25):
        await hears_of_the_end(what, begins_anew=True)


async def hears_of_the_end(what: str, *, begins_anew: bool) -> None:
    """Three wait; the call they wait for ends, and in the same moment another may begin, which ends later."""
    mcp = MCPServer("x")
    go = [trio.Event(), trio.Event()]

    async with serving(mcp) as wire, trio.open_nursery() as nursery:
        session = await wire.open()
        local = wire.app.hub.local(session.id)
        assert local is not None
        wait: Callable[[], Awaitable[None]] = wire.app.quiet if what == "exchanges" else local.calls.wait_done

        @mcp.tool
        async def hold(n: int) -> None:
            await go[n].wait()
            if n == 0 and begins_anew:
                session.tool("hold", n=1)

        session.tool("hold", n=0)
        await wait_all_tasks_blocked()
        done: list[int] = []

        async def waiter(n: int) -> None:
            await wait()
            done.append(n)

        for n in range(WAITERS):
            nursery.start_soon(waiter, n)
        await wait_all_tasks_blocked()
        go[0].set()
        await wait_all_tasks_blocked()
        go[1].set()
        with trio.fail_after(PATIENCE):
            while len(done) < WAITERS:
                await wait_all_tasks_blocked()
