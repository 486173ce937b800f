"""Official clients that call a tool beside a load, each in a process of its own, and what they saw."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.rig.scripts import client_environment, command
from tests.rig.waiting import PATIENCE, until

__all__ = ["BACKGROUND_CLIENTS", "BackgroundClient", "Failure", "background_clients", "called"]

SCRIPTS = Path(__file__).parent / "background"
BACKGROUND_CLIENTS = (("python_2_3.py", "legacy"), ("typescript_1_32.mjs", "legacy"), ("typescript_2_4.mjs", "legacy"))


@dataclass(frozen=True, slots=True)
class Failure:
    """A call, or a connection, that failed; `at` is the wall clock's."""

    at: float
    error: str


@dataclass(slots=True)
class BackgroundClient:
    """One client and what it saw; complete when its process has ended."""

    name: str
    process: trio.Process
    connects: int = 0
    calls: int = 0
    heard: int = 0
    slowest: float = 0.0
    nodes: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    said: str = ""
    working: trio.Event = field(default_factory=trio.Event)

    def take(self, seen: Mapping[str, Any]) -> None:
        """Fill in what it printed at the end."""
        self.connects, self.calls, self.heard = seen["connects"], seen["calls"], seen["heard"]
        self.slowest, self.nodes = seen["slowest"], seen["nodes"]
        self.failures = [Failure(**failure) for failure in seen["failures"]]

    def has_called(self, times: int) -> bool:
        """Whether so many of its calls have worked, also before it has ended."""
        return self.said.count("called\n") >= times

    async def read(self) -> None:
        """Read what it prints, until it ends."""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.said += chunk.decode()
            if "working\n" in self.said:
                self.working.set()
        self.working.set()
        lines = self.said.strip().splitlines()
        assert lines, f"{self.name} ended without any output"
        if lines[-1].startswith("{"):
            self.take(json.loads(lines[-1]))


@asynccontextmanager
async def background_clients(
    url: str, clients: Sequence[tuple[str, ...]] = BACKGROUND_CLIENTS
) -> AsyncIterator[list[BackgroundClient]]:
    """Clients at work for the length of the block; after it, what they saw."""
    async with trio.open_nursery() as nursery:
        found = [BackgroundClient(" ".join(words), await _started(url, *words)) for words in clients]
        try:
            for client in found:
                nursery.start_soon(client.read)
            with trio.fail_after(PATIENCE):
                for client in found:
                    await client.working.wait()
            yield found
            await _stop(found)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                for client in found:
                    client.process.kill()
                    await client.process.wait()


async def called(clients: Sequence[BackgroundClient], times: int) -> None:
    """Wait until so many calls of each client have worked."""

    async def asked() -> bool:
        return all(client.has_called(times) for client in clients)

    await until(asked, f"each background client has called {times} times")


async def _started(url: str, script: str, *words: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [*command(SCRIPTS / script), url, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=client_environment(),
    )


async def _stop(clients: Sequence[BackgroundClient]) -> None:
    with trio.fail_after(PATIENCE):
        for client in clients:
            assert client.process.stdin is not None
            await client.process.stdin.aclose()
        for client in clients:
            assert await client.process.wait() == 0, f"{client.name} crashed"
