"""WebSockets beside HTTP: calls a second with the same load, and what open connections cost that say nothing.

    python -m benchmarks.websocket [--write docs/performance.md]

The load is the same for both: so many connections, each of which has one call under way. A fresh server for each figure; the one for
open connections pings each of them every `--keepalive`, and they answer.
"""

import argparse
import json
import os
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.figures import WrongAnswer
from benchmarks.http_client import LEGACY, MODERN, Connection, initialize
from benchmarks.machine import LOAD_CORE, MissingTool, allow_descriptors, check, cpu_seconds, describe, pinned, resident
from benchmarks.servers import OURS, QUIET
from tools.report import between, table, today
from tools.served import Served, ServerFailed, served

CONNECTIONS = 32
WARM_UP_CALLS = 2_000
MASK = b"\0\0\0\0"
"""Frames of clients are masked; with zeros the payload stays as it is, and the load generator has nothing to compute."""
PING, PONG = b"\x89\x00", b"\x8a\x80" + MASK
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
SETTLE_SECONDS = 2.0
ENVIRONMENT = {**QUIET, "TRIO_MCP_WEBSOCKET": "true", "TRIO_MCP_MAX_WEBSOCKETS": "1000000"}


def frame(message: object) -> bytes:
    """A text frame of up to 64 KiB."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    head = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + head + MASK + payload


def websocket(port: int) -> socket.socket:
    """An open WebSocket; raises WrongAnswer."""
    lines = [
        *("GET /mcp HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mcp"),
    ]
    connection = _connect(port)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = connection.recv(4096)
    if b" 101 " not in answer[:16]:
        raise WrongAnswer(f"the handshake was refused: {answer[:200]!r}")
    return connection


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def call(modern: bool) -> dict[str, object]:
    """The call that is measured. Its id is the same each time, for there is one at a time on a connection."""
    params: dict[str, object] = {"name": "add", "arguments": {"a": 1, "b": 2}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params | ({"_meta": META} if modern else {})}


def over_websocket(port: int, modern: bool) -> tuple[socket.socket, bytes]:
    """A connection that is ready for calls, and the bytes of a call."""
    connection = websocket(port)
    if not modern:
        connection.sendall(frame(initialize()))
        if b'"result"' not in connection.recv(65_536):
            raise WrongAnswer("initialize was refused")
        connection.sendall(frame({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    return connection, frame(call(modern))


def over_http(port: int, modern: bool) -> tuple[socket.socket, bytes]:
    """The same."""
    headers = [f"MCP-Protocol-Version: {MODERN if modern else LEGACY}"]
    if modern:
        headers += ["Mcp-Method: tools/call", "Mcp-Name: add"]
    else:
        opening = Connection(port)
        headers.append(f"Mcp-Session-Id: {opening.post(initialize()).session}")
        opening.close()
    body = json.dumps(call(modern), separators=(",", ":")).encode()
    lines = [
        *("POST /mcp HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/json, text/event-stream"),
        *("Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""),
    ]
    return _connect(port), "\r\n".join(lines).encode() + body


def calls_per_second(
    running: Served, dial: Callable[[int, bool], tuple[socket.socket, bytes]], modern: bool, seconds: int
) -> float:
    """How many are answered with so many connections, each of which sends the next when it has its answer."""
    waiting = selectors.DefaultSelector()
    connections = []
    for _ in range(CONNECTIONS):
        connection, request = dial(running.port, modern)
        connections.append(connection)
        waiting.register(connection, selectors.EVENT_READ, request)
        connection.sendall(request)
    _answer(waiting, lambda done: done >= WARM_UP_CALLS)
    began = time.perf_counter()
    done = _answer(waiting, lambda _: time.perf_counter() - began >= seconds)
    rate = done / (time.perf_counter() - began)
    for connection in connections:
        connection.close()
    waiting.close()
    return rate


def _answer(waiting: selectors.BaseSelector, enough: Callable[[int], bool]) -> int:
    """Send the next call for each answer, until there were enough; how many there were."""
    done = 0
    while not done or not enough(done):
        for key, _ in waiting.select(5):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            heard = connection.recv(65_536)
            if b'"result":3' not in heard:
                raise WrongAnswer(f"not the answer: {heard[:300]!r}")
            connection.sendall(key.data)
            done += 1
    return done


def open_connections(running: Served, count: int, seconds: int) -> tuple[float, float, float]:
    """KB of memory for each handshake, and for each with a session; percent of a core for all of them while they say nothing."""
    pid, before = running.process.pid, resident(running.process.pid)
    connections = [websocket(running.port) for _ in range(count)]
    shaken = _settled(pid)
    for connection in connections:
        connection.sendall(frame(initialize()))
        if b'"result"' not in connection.recv(65_536):
            raise WrongAnswer("initialize was refused")
    opened = _settled(pid)
    spent = _say_nothing(pid, connections, seconds)
    for connection in connections:
        connection.close()
    return (shaken - before) / count / 1024, (opened - before) / count / 1024, 100 * spent / seconds


def _settled(pid: int) -> int:
    time.sleep(SETTLE_SECONDS)
    return resident(pid)


def _say_nothing(pid: int, connections: Sequence[socket.socket], seconds: int) -> float:
    """Answer pings; the CPU seconds of the server meanwhile."""
    waiting = selectors.DefaultSelector()
    for connection in connections:
        waiting.register(connection, selectors.EVENT_READ)
    began, before = time.monotonic(), cpu_seconds(pid)
    while (left := seconds - (time.monotonic() - began)) > 0:
        for key, _ in waiting.select(left):
            quiet = key.fileobj
            assert isinstance(quiet, socket.socket)
            if quiet.recv(4096) != PING:
                raise WrongAnswer("not a ping")
            quiet.sendall(PONG)
    waiting.close()
    return cpu_seconds(pid) - before


def measure(given: argparse.Namespace) -> str:
    """Both tables; raises WrongAnswer, ServerFailed."""
    rows = []
    for era, modern in (("2025-11-25", False), ("2026-07-28", True)):
        rates: dict[str, list[float]] = {"HTTP": [], "WebSocket": []}
        for _ in range(given.rounds):
            for name, dial in (("HTTP", over_http), ("WebSocket", over_websocket)):
                with served(pinned(OURS), ENVIRONMENT) as running:
                    rates[name].append(calls_per_second(running, dial, modern, given.seconds))
                    print(f"{era} {name:10} {rates[name][-1]:9,.0f} calls/s", flush=True)
        http, ours = statistics.median(rates["HTTP"]), statistics.median(rates["WebSocket"])
        rows.append([era, f"{http:,.0f}", f"{ours:,.0f}", f"{ours / http:.2f}"])
    with served(pinned(OURS), ENVIRONMENT) as running:
        shaken, opened, busy = open_connections(running, given.connections, given.idle_seconds)
    idle = [[f"{given.connections:,}", f"{shaken:.1f}", f"{opened:.1f}", f"{busy:.1f}"]]
    return (
        table(("version", "calls/s over HTTP", "over WebSocket", "ratio"), rows)
        + "\n"
        + table(
            (
                "open WebSockets",
                "KB each",
                "KB each, with a session",
                f"% CPU for all, in {given.idle_seconds} s of pings alone",
            ),
            idle,
        )
    )


def main() -> int:
    """`python -m benchmarks.websocket`."""
    ask = argparse.ArgumentParser(prog="benchmarks.websocket", description=__doc__)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    ask.add_argument("--connections", type=int, default=1000, help="that are open and say nothing")
    ask.add_argument("--idle-seconds", type=int, default=60, help="how long to watch them")
    ask.add_argument("--write", type=Path, help="put the tables into this Markdown file")
    given = ask.parse_args()
    try:
        check()
        allow_descriptors(given.connections + 200)
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        text = measure(given)
    except (MissingTool, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{text}")
    if given.write:
        how = f"server on one core, load ({CONNECTIONS} connections, in Python) on another; the median of {given.rounds} rounds of {given.seconds} s"
        between(given.write, "websocket", f"`make bench` on {today()}: {describe()}; {how}.\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
