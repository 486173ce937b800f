"""Three official clients that ride along with a load, each a process of its own, and what they saw."""

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
from tests.rig.waiting import PATIENCE

__all__ = ["RIDERS", "Failure", "Rider", "riding"]

SCRIPTS = Path(__file__).parent / "riders"
RIDERS = (("python_2_3.py", "legacy"), ("typescript_1_32.mjs", "legacy"), ("typescript_2_4.mjs", "legacy"))


@dataclass(frozen=True, slots=True)
class Failure:
    """A call, or a connection, that failed; `at` is the wall clock's."""

    at: float
    error: str


@dataclass(slots=True)
class Rider:
    """What one client saw; complete when the ride has ended."""

    name: str
    process: trio.Process
    connects: int = 0
    calls: int = 0
    heard: int = 0
    slowest: float = 0.0
    nodes: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    said: str = ""
    riding: trio.Event = field(default_factory=trio.Event)

    def take(self, seen: Mapping[str, Any]) -> None:
        """Fill in what it said at the end."""
        self.connects, self.calls, self.heard = seen["connects"], seen["calls"], seen["heard"]
        self.slowest, self.nodes = seen["slowest"], seen["nodes"]
        self.failures = [Failure(**failure) for failure in seen["failures"]]

    async def read(self) -> None:
        """Read what it says, until it ends."""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.said += chunk.decode()
            if "riding\n" in self.said:
                self.riding.set()
        self.riding.set()
        lines = self.said.strip().splitlines()
        assert lines, f"{self.name} ended without a word"
        if lines[-1].startswith("{"):
            self.take(json.loads(lines[-1]))


@asynccontextmanager
async def riding(url: str, riders: Sequence[tuple[str, str]] = RIDERS) -> AsyncIterator[list[Rider]]:
    """Clients at work for the length of the block; after it, what they saw."""
    async with trio.open_nursery() as nursery:
        found = [Rider(f"{script} {mode}", await _started(script, mode, url)) for script, mode in riders]
        try:
            for rider in found:
                nursery.start_soon(rider.read)
            with trio.fail_after(PATIENCE):
                for rider in found:
                    await rider.riding.wait()
            yield found
            await _stop(found)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                for rider in found:
                    rider.process.kill()
                    await rider.process.wait()


async def _started(script: str, mode: str, url: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [*command(SCRIPTS / script), url, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=client_environment(),
    )


async def _stop(riders: Sequence[Rider]) -> None:
    with trio.fail_after(PATIENCE):
        for rider in riders:
            assert rider.process.stdin is not None
            await rider.process.stdin.aclose()
        for rider in riders:
            assert await rider.process.wait() == 0, f"{rider.name} crashed"
