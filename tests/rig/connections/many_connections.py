"""Many connections of one client, as one JSON line of verdicts. Runs in any environment that has anyio."""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import anyio

__all__ = ["ALL_URIS", "Call", "Connect", "all_announced", "connections", "node_of", "say", "verdict"]

CALLS = 3
AT_ONCE = 5
CONNECTION_SECONDS = 120.0
STEP_SECONDS = 90.0
ROUNDS = 30
NODES = ("node1", "node2", "node3")
ALL_URIS = frozenset(f"rig://from/{node}" for node in NODES)

Call: TypeAlias = Callable[[str], Awaitable[dict[str, Any]]]
"""What a tool told."""
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Call]]


async def connections(connect: Connect, count: int) -> dict[str, Any]:
    """How many of `count` connections had all their calls answered, by one session, and what went wrong with the others."""
    good: list[int] = []
    faults: list[str] = []
    turns = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            try:
                with anyio.fail_after(CONNECTION_SECONDS):
                    async with connect() as call:
                        told = [await call("where") for _ in range(CALLS)]
                assert len({answer["session"] for answer in told}) == 1, f"not one session: {told}"
                good.append(number)
            except Exception as error:  # the boundary: whatever a client raises is the connection's verdict
                faults.append(_why(error))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return {"good": len(good), "of": count, "faults": faults}


async def verdict(step: Callable[[], Awaitable[None]]) -> str:
    """`ok`, or why not."""
    try:
        with anyio.fail_after(STEP_SECONDS):
            await step()
    except Exception as error:  # the same boundary
        return _why(error)
    return "ok"


async def all_announced(announce: Callable[[], Awaitable[str]], heard: Sequence[str]) -> None:
    """Have every node announce itself, and wait until all of them were heard: at least two are not the client's own."""
    announced: set[str] = set()
    for _ in range(ROUNDS):
        announced.add(await announce())
        if len(announced) == len(NODES):
            break
    assert announced == set(NODES), f"only {announced} announced themselves"
    while not ALL_URIS.issubset(heard):  # noqa: ASYNC110 the list is filled by a client that knows no events of ours
        await anyio.sleep(0.02)


def _why(error: BaseException) -> str:
    """The errors in a group, not that there is a group."""
    found = getattr(error, "exceptions", None)
    return "; ".join(map(_why, found)) if found else f"{type(error).__name__}: {error}"


def node_of(question: str) -> str:
    """Which node asked."""
    return question.removeprefix("asked by ")


def say(**verdicts: Any) -> None:
    """The last line of the process."""
    print(json.dumps(verdicts), flush=True)
    sys.stdout.flush()
