"""What is measured of a running server."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_client import LEGACY, MODERN, Connection, initialize
from benchmarks.machine import LOAD_CORE, cpu_seconds, pinned, resident
from tools.served import Served

__all__ = [
    "FIGURES",
    "Figure",
    "Figures",
    "Options",
    "SessionsOpened",
    "WrongAnswer",
    "calls_per_second",
    "open_session",
    "open_sessions",
]

SCRIPT = Path(__file__).resolve().parent / "tools_call.lua"
CONNECTIONS = 32
OPENERS = 8
"""Connections that open sessions side by side, so that the server always has the next request before it."""
ACCEPT_SETTLE_SECONDS = 2.0
WARM_UP_SECONDS = 3
"""Node compiles as it runs: after one second it is at half its speed."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much."""

    seconds: int
    sessions: int
    streams: int
    stream_seconds: int
    warm_up: int = WARM_UP_SECONDS
    """Seconds of load before each figure of calls."""


@dataclass(frozen=True, slots=True)
class SessionsOpened:
    """How many, how fast, and the seconds the middle one of the rounds took."""

    count: int
    rate: float
    median: float


class WrongAnswer(RuntimeError):
    """A server that does not add is not worth timing."""


def _legacy(server: Served, options: Options) -> Figures:
    return {"legacy calls/s": _calls(server, options, "add", open_session(server))}


def _modern(server: Served, options: Options) -> Figures:
    return {"modern calls/s": _calls(server, options, "add", None)}


def _equal(server: Served, options: Options) -> Figures:
    """Requests whose heads are equal, byte for byte: what a client gets that makes the same call again and again."""
    legacy = _calls(server, options, "add", open_session(server), equal=True)
    modern = _calls(server, options, "add", None, equal=True)
    return {"legacy, equal heads": legacy, "modern, equal heads": modern}


def _sse(server: Served, options: Options) -> Figures:
    """The tool notifies before it answers: a stream of two events."""
    return {"SSE calls/s": _calls(server, options, "add_with_progress", open_session(server))}


def _threads(server: Served, options: Options) -> Figures:
    return {"sync calls/s": _calls(server, options, "add_in_thread", open_session(server))}


def _sessions(server: Served, options: Options) -> Figures:
    """Sessions opened per second, and what one costs while nobody uses it."""
    open_sessions(server, OPENERS, 20 * OPENERS)  # what the first sessions load stays out of the figure
    before = resident(server.process.pid)
    opened = open_sessions(server, OPENERS, options.sessions)
    after = resident(server.process.pid)
    return {"new sessions/s": opened.rate, "KB per idle session": (after - before) / opened.count / 1000}


def _streams(server: Served, options: Options) -> Figures:
    """Sessions that each hold a GET stream open: memory, and the processor time keep-alives take."""
    _open_stream(server.port).close()
    before = resident(server.process.pid)
    held = [_open_stream(server.port) for _ in range(options.streams)]
    after = resident(server.process.pid)
    time.sleep(ACCEPT_SETTLE_SECONDS)
    busy = cpu_seconds(server.process.pid)
    time.sleep(options.stream_seconds)
    busy = cpu_seconds(server.process.pid) - busy
    for connection in held:
        connection.close()
    share = 100 * busy / options.stream_seconds
    return {"KB per open stream": (after - before) / options.streams / 1000, "% CPU for open streams": share}


Figure = Callable[[Served, Options], Figures]

FIGURES: dict[str, Figure] = {
    "legacy": _legacy,
    "modern": _modern,
    "equal": _equal,
    "sse": _sse,
    "threads": _threads,
    "sessions": _sessions,
    "streams": _streams,
}


def _calls(server: Served, options: Options, tool: str, session: str | None, *, equal: bool = False) -> float:
    return calls_per_second(server, options.seconds, tool, session, warm_up=options.warm_up, equal=equal)


def calls_per_second(
    server: Served,
    seconds: int,
    tool: str,
    session: str | None,
    *,
    warm_up: int = WARM_UP_SECONDS,
    tokens: Path | None = None,
    equal: bool = False,
) -> float:
    """tools/call per second, after a warm-up of that many seconds; raises `WrongAnswer`.

    Their lengths differ, unless `equal`. Each request has the next access token of the file `tokens`, if there is one.
    """
    environment = {"EQUAL": str(int(equal))}
    if tokens is not None:
        environment["TOKENS"] = str(tokens)
    if warm_up:
        _wrk(server, warm_up, tool, session, environment)
    return _wrk(server, seconds, tool, session, environment)


def _wrk(server: Served, seconds: int, tool: str, session: str | None, more: Mapping[str, str]) -> float:
    environment = {"TOOL": tool, "VERSION": LEGACY if session else MODERN, "PROGRESS": str(int("progress" in tool))}
    environment |= more
    if session:
        environment["SESSION"] = session
    command = pinned(("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(SCRIPT), server.url), LOAD_CORE)
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=seconds + 30, check=True
    )
    rate = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise WrongAnswer(f"{tool}: {done.stdout}{done.stderr}")
    return float(rate[1])


def open_session(server: Served, headers: Mapping[str, str] | None = None) -> str:
    """A session that has been told the client is ready, and that adds; `headers` go with each request. Raises `WrongAnswer`."""
    connection = Connection(server.port)
    session = connection.post(initialize(), {**(headers or {})}).session
    headers = {**(headers or {}), "Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
    connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    params = {"name": "add", "arguments": {"a": 2, "b": 3}}
    answer = connection.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers)
    connection.close()
    if answer.status != 200 or b'"text":"5"' not in answer.body.replace(b" ", b""):
        raise WrongAnswer(f"2 + 3 gave {answer.status} {answer.body!r}")
    return session


def open_sessions(server: Served, at_once: int, count: int) -> SessionsOpened:
    """Open sessions over `at_once` connections, each of which asks again when all have their answers."""
    openers = [Connection(server.port) for _ in range(at_once)]
    message, took = initialize(), []
    for _ in range(count // at_once):
        started = time.perf_counter()
        for opener in openers:
            opener.send(message)
        for opener in openers:
            opener.read()
        took.append(time.perf_counter() - started)
    for opener in openers:
        opener.close()
    opened = len(took) * at_once
    return SessionsOpened(opened, opened / sum(took), statistics.median(took))


def _open_stream(port: int) -> Connection:
    connection = Connection(port)
    session = connection.post(initialize()).session
    headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
    connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    connection.open_stream(session)
    return connection
