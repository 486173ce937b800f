"""Memory under load: what a node holds when answers are large, readers slow and bodies never end. Each asserts its RSS.

    python -m benchmarks.memory [--only NAME] [--write docs/performance.md]

Every load meets a fresh server with the account of a node without a container limit (256 MiB). Beside it somebody else calls a
small tool all the time, and is timed.
"""

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from benchmarks.http_client import LEGACY, Connection, initialize
from benchmarks.machine import LOAD_CORE, allow_descriptors, describe, pinned, resident
from tools.report import between, table, today
from tools.served import served

__all__ = ["LOADS", "Figures", "main"]

HERE = Path(__file__).resolve().parent
COMMAND = (sys.executable, "-m", "trio_mcp", "serve", str(HERE / "memory_app.py"), "--port", "{port}")
QUIET = {"TRIO_MCP_LOG_LEVEL": "ERROR", "TRIO_MCP_MAX_SESSIONS": "1000000"}

MIB = 1 << 20
ACCOUNT = 256 * MIB
TOLERANCE = 1.3
DESCRIPTORS = 8_000
SAMPLE_SECONDS = 0.05
SLOW_READ = 100_000
"""Bytes a second of a reader that is slow and reads."""
RECEIVE_BUFFER = 64 * 1024
"""Of slow readers: what the kernel takes for them is read as far as the server knows."""
BODY = 4 * MIB


class WrongAnswer(AssertionError):
    """A client was not served, or the server used more memory than it may."""


@dataclass(slots=True)
class Figures:
    """What one load did."""

    base: int = 0
    peak: int = 0
    """Of resident memory, bytes; `base` with the sessions open."""
    waits: list[float] = field(default_factory=list)
    """Seconds that each call of the client beside the load took."""
    note: str = ""

    @property
    def grown(self) -> int:
        return self.peak - self.base


class Node:
    """The server under load, and its clients."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self.figures = Figures()
        self.nursery: trio.Nursery

    def sessions(self, count: int) -> list[str]:
        """Open so many; from here on memory is measured."""
        connection = Connection(self.port)
        opened = [connection.post(initialize()).session for _ in range(count)]
        connection.close()
        self.figures.base = resident(self.pid)
        return opened

    async def call(self, session: str, id: int, name: str, *, rate: float = 0, **arguments: object) -> bool:
        """Whether a call was answered with a result, read at `rate` bytes a second; 0 is full speed."""
        params = {"name": name, "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()
        stream = await self.connect(small=bool(rate))
        async with stream:
            await stream.send_all(self.head(session, len(body)) + body)
            return await _result(stream, rate)

    async def connect(self, *, small: bool = False) -> trio.SocketStream:
        """A connection; `small` is one whose kernel takes little ahead of its reader."""
        connecting = trio.socket.socket()
        if small:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        await connecting.connect(("127.0.0.1", self.port))
        return trio.SocketStream(connecting)

    def head(self, session: str, length: int) -> bytes:
        lines = [
            *("POST /mcp HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close"),
            *("Content-Type: application/json", "Accept: application/json, text/event-stream"),
            *(f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {LEGACY}", f"Content-Length: {length}"),
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def watch(self) -> None:
        """Record the peak of resident memory until cancelled."""
        while True:
            self.figures.peak = max(self.figures.peak, resident(self.pid))
            await trio.sleep(SAMPLE_SECONDS)

    async def others(self, session: str, every: float = 0.2) -> None:
        """Call a small tool all the time, beside the load; raises WrongAnswer when a call has no result."""
        number = 0
        while True:
            number += 1
            began = time.perf_counter()
            if not await self.call(session, number, "quick"):
                raise WrongAnswer("somebody else was not served")
            self.figures.waits.append(time.perf_counter() - began)
            await trio.sleep(every)

    async def all_alive(self, sessions: list[str]) -> None:
        """Raises WrongAnswer when a session has ended."""
        for session in sessions:
            if not await self.call(session, 9_999, "quick"):
                raise WrongAnswer("a session has ended")


async def _result(stream: trio.SocketStream, rate: float) -> bool:
    found, tail = False, b""
    try:
        while data := await stream.receive_some(min(65_536, max(1, int(rate))) if rate else 65_536):
            found = found or b'"result":' in tail + data
            tail = data[-20:]
            if rate:
                await trio.sleep(len(data) / rate)
    except trio.BrokenResourceError:
        return False
    # A stream that was cut short lacks its last chunk.
    return found and tail.endswith((b"0\r\n\r\n", b"}"))


async def _many(work: Sequence[Callable[[], Awaitable[bool]]], at_once: int) -> int:
    """How many were true."""
    limit, done = trio.CapacityLimiter(at_once), 0

    async def one(call: Callable[[], Awaitable[bool]]) -> None:
        nonlocal done
        async with limit:
            answered = await call()
            done += answered

    async with trio.open_nursery() as nursery:
        for each in work:
            nursery.start_soon(one, each)
    return done


def _expect(count: int, wanted: int, what: str) -> None:
    if count != wanted:
        raise WrongAnswer(f"{count} of {wanted} {what}")


async def replays(node: Node) -> None:
    """2,000 sessions with four answers of 450 KiB, each read to the end."""
    sessions = node.sessions(2_000)
    async with node_watched(node):
        for number in range(4):
            calls = [partial(node.call, each, number, "text", size=450 * 1024) for each in sessions]
            _expect(await _many(calls, 16), len(sessions), "answers read")
        await node.all_alive(sessions)


async def pictures(node: Node) -> None:
    """Three pictures of 1.7 MB at once in each of 50 sessions, read at full speed."""
    sessions = node.sessions(50)
    async with node_watched(node):
        calls = [partial(node.call, each, number, "screenshot") for each in sessions for number in range(3)]
        _expect(await _many(calls, 1_000), 150, "pictures read")
        await node.all_alive(sessions)


async def slow_pictures(node: Node) -> None:
    """The same, read at 100 KB/s: all delivered, and new calls wait."""
    sessions = node.sessions(50)
    (other,) = node.sessions(1)
    async with node_watched(node):
        node.nursery.start_soon(node.others, other)
        calls = [
            partial(node.call, each, number, "screenshot", rate=SLOW_READ) for each in sessions for number in range(3)
        ]
        _expect(await _many(calls, 1_000), 150, "pictures read at 100 KB/s")
        await node.all_alive(sessions)
    if max(node.figures.waits) < 1:
        raise WrongAnswer("no new call waited")


async def hardly_read(node: Node) -> None:
    """100 readers of pictures at 1 byte a second and 100 that stop: they are cut off, and all others are served."""
    sessions = node.sessions(200)
    (other,) = node.sessions(1)
    async with node_watched(node):
        gone = 0

        async def reader(session: str, rate: float) -> None:
            nonlocal gone
            if not await node.call(session, 1, "screenshot", rate=rate):
                gone += 1

        async with trio.open_nursery() as readers:
            for number, session in enumerate(sessions):
                readers.start_soon(reader, session, 1 if number % 2 else 1e-6)
            node.nursery.start_soon(node.others, other)
            await trio.sleep(60)
            last = len(node.figures.waits)
            await trio.sleep(2)
            if len(node.figures.waits) - last < 5:
                raise WrongAnswer("somebody else still waits")
            readers.cancel_scope.cancel()


async def bodies(node: Node) -> None:
    """1,000 bodies of 4 MiB that lack their last byte: all other clients are served, with small bodies and large."""
    (other,) = node.sessions(1)
    async with node_watched(node):

        async def unfinished() -> None:
            stream = await node.connect()
            async with stream:
                try:
                    await stream.send_all(node.head("", BODY) + b"x" * (BODY - 1))
                    await trio.sleep_forever()
                except trio.BrokenResourceError:
                    pass

        async with trio.open_nursery() as senders:
            for _ in range(1_000):
                senders.start_soon(unfinished)
            await trio.sleep(2)
            node.nursery.start_soon(node.others, other)
            began = time.perf_counter()
            if not await node.call(other, 0, "quick", padding="x" * MIB):
                raise WrongAnswer("a large body was not served")
            node.figures.note = f"a body of 1 MiB took {time.perf_counter() - began:.1f} s"
            await trio.sleep(20)
            senders.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class Load:
    """What is done, and how much more memory it may take than the sessions alone."""

    run: Callable[[Node], Awaitable[None]]
    bound: int


LOADS = {
    "2,000 sessions x four answers of 450 KiB": Load(replays, ACCOUNT),
    "50 sessions x three pictures of 1.7 MB, full speed": Load(pictures, 2 * ACCOUNT),
    "the same at 100 KB/s": Load(slow_pictures, 2 * ACCOUNT),
    "200 readers at 1 byte/s or stopped": Load(hardly_read, 2 * ACCOUNT),
    "1,000 unfinished bodies of 4 MiB": Load(bodies, ACCOUNT),
}
"""Twice the account where all calls run before the first answer waits: those that run may still answer."""


@asynccontextmanager
async def node_watched(node: Node) -> AsyncIterator[None]:
    """Record the peak for the length of the block; raises what its tasks raise."""
    async with trio.open_nursery() as node.nursery:
        node.nursery.start_soon(node.watch)
        yield
        node.nursery.cancel_scope.cancel()


def measure(name: str) -> Figures:
    """Run one load; raises WrongAnswer."""
    load = LOADS[name]
    with served(pinned(COMMAND), QUIET) as running:
        node = Node(running.port, running.process.pid)
        trio.run(load.run, node)
    figures = node.figures
    print(f"{name}: {_row(name, figures)[1:]}", flush=True)
    if figures.grown > load.bound * TOLERANCE:
        raise WrongAnswer(f"{name}: {figures.grown / MIB:.0f} MiB more than the sessions alone")
    return figures


def _row(name: str, figures: Figures) -> list[str]:
    waits = sorted(figures.waits)
    longest = f"{waits[len(waits) // 2] * 1000:.0f} / {waits[-1] * 1000:.0f}" if waits else "-"
    bound = LOADS[name].bound * TOLERANCE
    return [
        name,
        f"{figures.base / MIB:.0f}",
        f"{figures.grown / MIB:.0f}",
        f"{bound / MIB:.0f}",
        longest,
        figures.note or "-",
    ]


COLUMNS = ("load", "MiB before", "MiB more at the peak", "at most", "others' calls, ms: median / longest", "")


def main() -> int:
    """`python -m benchmarks.memory`."""
    ask = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    ask.add_argument("--only", default="", help="loads whose name contains this")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    allow_descriptors(DESCRIPTORS)
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    rows = [_row(name, measure(name)) for name in LOADS if given.only in name]
    text = table(COLUMNS, rows)
    print(text)
    if given.write:
        between(given.write, "memory", f"`python -m benchmarks.memory` on {today()}: {describe()}.\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
