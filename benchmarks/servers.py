"""The servers to compare: ours on both its fronts, the official SDKs, and a bare loop."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.node import MissingNode, node

__all__ = ["BARE_LOOP", "BASELINE", "PYTHON_SDK", "SERVERS", "Server", "command"]

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "bench"
PYTHON = CACHE / "python" / "bin" / "python"
OURS = (sys.executable, "-m", "trio_mcp", "serve", str(HERE / "app.py"), "--port", "{port}")
QUIET = {"TRIO_MCP_LOG_LEVEL": "WARNING", "TRIO_MCP_MAX_SESSIONS": "1000000"}
"""The peers log no requests and have no cap on sessions either."""
UVICORN = (
    *(str(PYTHON), "-m", "uvicorn", "--app-dir", str(HERE / "peers"), "python_sdk:app", "--port", "{port}"),
    *("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"),
)
TYPESCRIPT = "typescript_sdk.mjs"
BESIDE_THE_LOOP = ("openings", "called")
"""Figures of `benchmarks/bare_loop.py` alone."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start it, and what it can be asked: figures it has no answer to are left out."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    figures: tuple[str, ...] = ("legacy", "modern", "threads", "sessions", "streams")


SERVERS = (
    Server(
        "trio-mcp",
        OURS,
        QUIET,
        ("legacy", "modern", "equal", "sse", "threads", "sessions", "streams", *BESIDE_THE_LOOP),
    ),
    Server("trio-mcp on hypercorn", (*OURS, "--server", "hypercorn"), QUIET, ("legacy", "modern", "sse", "sessions")),
    Server("mcp 2.3", UVICORN, {}, ("legacy", "modern", "equal", "threads", "sessions", "streams", *BESIDE_THE_LOOP)),
    Server("mcp 2.3, SSE answers", UVICORN, {"SSE": "1"}, ("legacy", "modern", "sse", "threads")),
    Server("TypeScript 1.32", (TYPESCRIPT, "{port}"), {}, ("legacy", "sessions", "streams")),
    Server("TypeScript 1.32, SSE answers", (TYPESCRIPT, "{port}"), {"SSE": "1"}, ("legacy", "sse")),
)
BASELINE, PYTHON_SDK = SERVERS[0], SERVERS[2]
BARE_LOOP = Server(
    "bare loop",
    (sys.executable, str(HERE / "peers" / "bare_loop.py"), "{port}"),
    {},
    ("legacy", "modern", "equal", *BESIDE_THE_LOOP),
)


def command(server: Server) -> tuple[str, ...]:
    """The command to run, `{port}` still to be filled in; raises `MissingNode` when what it starts is not installed."""
    program, *arguments = server.command
    found = CACHE / "node" / program if program == TYPESCRIPT else Path(program)
    if not found.exists():
        raise MissingNode(f"{server.name} is not installed. Install the peers with: make .cache/.bench")
    return (str(node()), str(found), *arguments) if program == TYPESCRIPT else server.command
