"""One client beside a load: it calls a tool until stdin ends, then prints what it saw, as one JSON line.

Runs in any environment that has anyio: the scripts beside this one are run by the Python that has their release of `mcp`.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio

__all__ = ["Call", "Connect", "Seen", "call_until_stdin_ends"]

PAUSE = 0.3
PATIENCE = 2
"""After so many failed calls in a row it connects anew."""

Call: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
"""Calls the tool `where`; gives its structured content."""


@dataclass
class Seen:
    """What is printed at the end."""

    connects: int = 0
    calls: int = 0
    heard: int = 0
    slowest: float = 0.0
    nodes: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    async def on_message(self, message: object) -> None:
        """Count a message that the server sent by itself."""
        self.heard += 1

    def failed(self, error: object) -> None:
        """Remember a failure, with the wall clock's time."""
        self.failures.append({"at": time.time(), "error": f"{type(error).__name__}: {error}"})


Connect: TypeAlias = Callable[[Seen], AbstractAsyncContextManager[Call]]
"""Opens a connection and initializes it; leaving the block ends it."""


async def call_until_stdin_ends(connect: Connect, call_seconds: float) -> None:
    """Connect and call; connect anew when calls fail.

    Prints `working` for each connection, `called` for each call that worked, and what was seen at the end.
    """
    seen = Seen()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_connect_and_call, connect, call_seconds, seen)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()
    print(json.dumps(vars(seen)), flush=True)


async def _connect_and_call(connect: Connect, call_seconds: float, seen: Seen) -> None:
    while True:
        try:
            async with connect(seen) as call:
                seen.connects += 1
                print("working", flush=True)
                await _call_until_lost(call, call_seconds, seen)
        except Exception as error:  # the boundary, around opening and closing: whatever a client raises is what it saw
            seen.failed(error)
            await anyio.sleep(PAUSE)


async def _call_until_lost(call: Call, call_seconds: float, seen: Seen) -> None:
    failures = 0
    while failures < PATIENCE:
        started = time.monotonic()
        try:
            with anyio.fail_after(call_seconds):
                told = await call()
        except Exception as error:  # the same boundary
            failures += 1
            seen.failed(error)
        else:
            failures = 0
            seen.calls += 1
            seen.nodes[told["node"]] += 1
            print("called", flush=True)
        seen.slowest = max(seen.slowest, time.monotonic() - started)
        await anyio.sleep(PAUSE)
