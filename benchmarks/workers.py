"""What a call costs over several workers, in processor time of all processes of a node, against one process.

 kept     each client has its session and a kept connection, which any worker may accept: the connection moves once, or not at all
 pool     32 connections that carry 1,000 sessions at random, as a balancer's: connections move a few times, then calls are relayed

Each round measures all of them, one right after the other. The times are the processes' own, so the load may use the same cores.
`mcp` 2.3 under uvicorn with two workers is beside it for the sessions that it does not find.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import trio

from benchmarks.machine import MissingTool, check, cpu_seconds, describe
from benchmarks.servers import OURS, PYTHON, QUIET, UVICORN
from tools.report import between, table, today
from tools.served import Served, ServerFailed, served

VERSION = "2025-11-25"
CLIENTS, SESSIONS, CONNECTIONS = 64, 1000, 32
WORKERS = (1, 2, 4)
TARGETS = {
    "kept, 2 workers ÷ 1": 1.15,
    "kept, 4 workers ÷ 1": 1.15,
    "pool, 2 workers ÷ 1": 1.6,
    "pool, 4 workers ÷ 1": 1.6,
}
SETTINGS = {**QUIET, "TRIO_MCP_DRAIN_TIMEOUT": "0"}
ARGUMENTS = {"name": "add", "arguments": {"a": 2, "b": 3}}


class Connection:
    """One kept connection; opened again when its server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: trio.SocketStream | None = None

    async def ask(self, session: str, message: dict[str, object]) -> tuple[int, str, bytes]:
        """The status, the session id and the body of the answer to one POST."""
        body = json.dumps(message).encode()
        of_session = f"mcp-session-id: {session}\r\nmcp-protocol-version: {VERSION}\r\n" if session else ""
        head = (
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\n{of_session}content-length: {len(body)}\r\n\r\n"
        )
        if self._stream is None:
            self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        await self._stream.send_all(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            more = await self._stream.receive_some(65536)
            if not more:
                raise ServerFailed("the connection was closed")
            data += more
        first, _, rest = data.partition(b"\r\n\r\n")
        lines = first.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        while len(rest) < int(fields.get("content-length", "0")):
            rest += await self._stream.receive_some(65536)
        return int(lines[0].split()[1]), fields.get("mcp-session-id", ""), rest

    async def close(self) -> None:
        """Close it; it is opened again when it is used."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None


async def _open(port: int) -> str:
    connection = Connection(port)
    params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    _, session, _ = await connection.ask("", message)
    await connection.ask(session, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    await connection.close()
    return session


async def _sessions(port: int, wanted: int) -> list[str]:
    found: list[str] = []

    async def some(many: int) -> None:
        found.extend([await _open(port) for _ in range(many)])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(some, wanted // 8)
    return found


async def _calls(port: int, wanted: list[list[str]]) -> tuple[int, int]:
    """Make the calls of each connection, one after the other, all connections at once; calls answered, and sessions not found."""
    answered = lost = 0
    ids = count(1)  # a session may have calls on several connections

    async def one(sessions: Iterable[str]) -> None:
        nonlocal answered, lost
        connection = Connection(port)
        for session in sessions:
            message = {"jsonrpc": "2.0", "id": next(ids), "method": "tools/call", "params": ARGUMENTS}
            status, _, body = await connection.ask(session, message)
            answered += status == 200 and b'"5"' in body
            lost += status == 404
        await connection.close()

    async with trio.open_nursery() as nursery:
        for sessions in wanted:
            nursery.start_soon(one, sessions)
    return answered, lost


def _kept(sessions: list[str], calls: int) -> list[list[str]]:
    return [[session] * (calls // CLIENTS) for session in sessions[:CLIENTS]]


def _pool(sessions: list[str], calls: int) -> list[list[str]]:
    chosen = random.Random(1)
    return [chosen.choices(sessions, k=calls // CONNECTIONS) for _ in range(CONNECTIONS)]


KINDS = {"kept": _kept, "pool": _pool}


def _measure(node: Served, sessions: list[str], kind: str, calls: int) -> float:
    """µs of processor time for each call."""
    wanted = KINDS[kind](sessions, calls)
    before = cpu_seconds(node.process.pid)
    answered, lost = trio.run(_calls, node.port, wanted)
    used = cpu_seconds(node.process.pid) - before
    if lost or answered != sum(map(len, wanted)):
        raise ServerFailed(f"{answered} calls were answered of {sum(map(len, wanted))}, {lost} sessions not found")
    return used / answered * 1e6


def _wait_for(node: Served, workers: int) -> None:
    """Until all workers have accepted connections: they start one after the other."""
    boots: set[bytes] = set()

    async def ask() -> None:
        while len(boots) < workers:
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
                await stream.send_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                answer = b"".join([chunk async for chunk in stream])
            boots.add(answer.rpartition(b'"boot":')[2])

    trio.run(ask)


def measure(rounds: int, calls: int, counts: Sequence[int]) -> dict[str, float]:
    """The median of each figure."""
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        found: dict[tuple[str, int], float] = {}
        for workers in counts:
            with served((*OURS, "--workers", str(workers)), SETTINGS) as node:
                _wait_for(node, workers)
                sessions = trio.run(_sessions, node.port, SESSIONS)
                for kind in KINDS:
                    _measure(node, sessions, kind, calls // 10)
                    found[kind, workers] = _measure(node, sessions, kind, calls)
                    print(f"{kind}, {workers} workers: {found[kind, workers]:.0f} µs a call", flush=True)
        for (kind, workers), cost in found.items():
            samples[f"{kind}, {workers} workers, µs a call"].append(cost)
            if workers > 1:
                samples[f"{kind}, {workers} workers ÷ 1"].append(cost / found[kind, 1])
    return {name: statistics.median(seen) for name, seen in samples.items()}


def lost_by_the_official_sdk() -> str:
    """How many of 100 sessions `mcp` 2.3 does not find under uvicorn with two workers."""
    if not PYTHON.exists():
        return "not installed: make .cache/.bench"
    with served((*UVICORN, "--workers", "2")) as node:
        sessions = trio.run(_sessions, node.port, 96)
        _, lost = trio.run(_calls, node.port, [[session] for session in sessions])
    return f"{lost} of {len(sessions)}"


def main() -> int:
    """`python -m benchmarks.workers`."""
    ask = argparse.ArgumentParser(prog="benchmarks.workers", description="Measure what workers cost.")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--calls", type=int, default=20_000, help="for each figure")
    ask.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="how many, one worker first")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    try:
        check()
        figures = measure(given.rounds, given.calls, given.workers)
    except (MissingTool, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    rows = [
        [name, f"{value:.2f}", f"at most {TARGETS[name]}" if name in TARGETS else ""] for name, value in figures.items()
    ]
    with suppress(ServerFailed):
        rows.append(["sessions not found by mcp 2.3, uvicorn --workers 2", lost_by_the_official_sdk(), ""])
    text = table(("figure", "measured", "wanted"), rows)
    print(f"\n{text}")
    if given.write:
        between(given.write, "workers", f"{today()}: {describe()}; the median of {given.rounds} rounds.\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
