"""`python -m tests.tasks.races 1000`: a cancel that races the end of its task, so many times. Each must give one end, and never two."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from tests.tasks.harness import task_client, with_tasks
from trio_mcp import Task

__all__ = ["raced"]

APART = 12
"""The cancel begins up to so many turns of the event loop before the end."""


async def raced(times: int) -> Counter[str]:
    """How often each end was the one."""
    mcp = with_tasks()
    gates: dict[int, trio.Event] = {}

    @mcp.tool(task=Task(after=0))
    async def gated(n: int) -> int:
        gates[n] = trio.Event()
        await gates[n].wait()
        return n

    ends: Counter[str] = Counter()
    async with task_client(mcp) as client:
        for n in range(times):
            task = await client.begin("gated", n=n)
            await wait_all_tasks_blocked()
            heard: list[str] = []
            client.store.watch(task["taskId"], lambda record, heard=heard: heard.append(record.status.value))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.cancel, task)
                for _ in range(n % APART):
                    await trio.lowlevel.checkpoint()
                gates[n].set()
            await wait_all_tasks_blocked()
            ended = (await client.state(task))["status"]
            assert [status for status in heard if status != "working"] == [ended]
            ends[ended] += 1
    return ends


if __name__ == "__main__":
    print(dict(trio.run(partial(raced, int(sys.argv[1])))))
