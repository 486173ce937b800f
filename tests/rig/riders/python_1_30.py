"""The official Python client of the 1.x line riding along: `python_1_30.py URL legacy`. An answer of 5xx ends its session for good."""

import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx  # noqa: ASYNC127 what this release of the client is built on
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

PAUSE = 0.3
CALL_SECONDS = 30.0
PATIENCE = 2
"""So many failures in a row, and it connects anew."""


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
        self.heard += 1

    def failed(self, error: object) -> None:
        self.failures.append({"at": time.time(), "error": f"{type(error).__name__}: {error}"})


@asynccontextmanager
async def connected(url: str, seen: Seen) -> AsyncIterator[ClientSession]:
    timeout = httpx.Timeout(CALL_SECONDS, read=300)
    async with (
        httpx.AsyncClient(verify=False, timeout=timeout, headers={"connection": "close"}) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write, message_handler=seen.on_message) as session,
    ):
        await session.initialize()
        seen.connects += 1
        yield session


async def call_until_lost(session: ClientSession, seen: Seen) -> None:
    failures = 0
    while failures < PATIENCE:
        started = time.monotonic()
        try:
            with anyio.fail_after(CALL_SECONDS):
                told = (await session.call_tool("where", {})).structuredContent or {}
        except Exception as error:  # the boundary: whatever a client raises is what it saw
            failures += 1
            seen.failed(error)
        else:
            failures = 0
            seen.calls += 1
            seen.nodes[told["node"]] += 1
        seen.slowest = max(seen.slowest, time.monotonic() - started)
        await anyio.sleep(PAUSE)


async def ride(url: str, seen: Seen) -> None:
    while True:
        try:
            async with connected(url, seen) as session:
                print("riding", flush=True)
                await call_until_lost(session, seen)
        except Exception as error:  # the same boundary, around opening and closing
            seen.failed(error)
            await anyio.sleep(PAUSE)


async def main(url: str) -> None:
    seen = Seen()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ride, url, seen)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()
    print(json.dumps(vars(seen)), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
