"""Runs a server as a process: its log, its banner, one `trio.run`, the exit code."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import trio

from trio_mcp.observability.build import version
from trio_mcp.observability.logs import configure, event, leaves, log_stray_errors
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.settings_report import unread
from trio_mcp.serving.standard_streams import Pipes, open_missing_streams, protocol_pipes

if TYPE_CHECKING:
    from trio_mcp.server import MCPServer

__all__ = [
    "Transport",
    "announce",
    "banner",
    "check_server",
    "expected_error_alone",
    "launch",
    "prepare_process",
    "ready_fields",
    "serve_on",
]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

GC_THRESHOLDS = (20_000, 20, 20)
"""Of `gc.set_threshold`. Python's own are 700, 10, 10."""

Transport: TypeAlias = Literal["stdio", "http"]


def launch(server: MCPServer, transport: Transport, settings: Settings, pipes: Pipes | None = None) -> int:
    """Serve in an event loop of its own until stopped, and return the exit code; 1 after a crash, which is logged.

    `pipes` are those of stdio where they had to be taken before user code was imported. Raises McpError when the server cannot be
    served as asked.
    """
    if transport == "http" and settings.workers != 1:
        raise McpError(
            f"workers={settings.workers}: each worker imports the server anew, by the name of its file or module. Start it with "
            f"`trio-mcp serve file.py --workers {settings.workers}`"
        )
    prepare_process(settings, transport)
    try:
        return trio.run(partial(serve_on, server, transport, settings, pipes, owns_process=True))
    except McpError:
        raise
    except Exception as crash:  # of the user's lifespan, or our own: logged as one line, like everything else
        event(logger, logging.ERROR, "the server crashed", error=crash)
        return 1


def prepare_process(settings: Settings, transport: Transport) -> None:
    """Once, before the event loop runs: standard streams, log, garbage collection."""
    open_missing_streams()
    _start_logs(settings, transport)
    _collect_seldom()


async def serve_on(
    server: MCPServer,
    transport: Transport,
    settings: Settings,
    pipes: Pipes | None = None,
    *,
    owns_process: bool = False,
) -> int:
    """Serve inside a running event loop, without touching the log; the process goes on afterwards unless `owns_process`."""
    # Imported late, because one of the two transports is not needed.
    if transport == "stdio":
        from trio_mcp.serving.stdio import run_stdio

        with nullcontext(pipes) if pipes is not None else protocol_pipes() as taken:
            if os.isatty(taken.stdin):
                print(_on_a_terminal(server), file=sys.stderr, flush=True)
            return await run_stdio(server, settings, taken, owns_process=owns_process)
    return await _over_http(server, settings, owns_process=owns_process)


def _collect_seldom() -> None:
    """Collect garbage rarely: requests leave no reference cycles, and looking through long-lived sessions cost a third of each opening."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _over_http(server: MCPServer, settings: Settings, *, owns_process: bool) -> int:
    from trio_mcp.serving.node import serve

    check_server(settings)
    shown = False

    def say(urls: list[str], waits_for: Sequence[str]) -> None:
        nonlocal shown
        text = None if shown else banner(server, settings, urls, waits_for)
        announce(settings, text, waits_for, **ready_fields(server, settings, urls))
        shown = True

    with expected_error_alone():
        interactive = sys.stderr.isatty()
        return await serve(server, settings, announce=say, interactive=interactive, owns_process=owns_process)


def check_server(settings: Settings) -> None:
    """Raises McpError where the HTTP server that is asked for is not installed."""
    if settings.server == "hypercorn" and find_spec("hypercorn") is None:
        raise McpError("--server hypercorn needs one more package: pip install 'trio-mcp[hypercorn]'")


@contextmanager
def expected_error_alone() -> Iterator[None]:
    """Raise an McpError by itself, without the groups of the nurseries that it passed through."""
    try:
        yield
    except ExceptionGroup as group:
        (cause, *more) = leaves(group)
        if more or not isinstance(cause, McpError):
            raise
        raise cause from group


def _start_logs(settings: Settings, transport: Transport) -> None:
    level = settings.log_level
    if transport == "stdio" and "log_level" not in settings.model_fields_set:
        # MCP clients show the stderr of their servers to users.
        level = "WARNING"
    configure(level, settings.log_format, node=settings.node_id)
    log_stray_errors()
    if not settings.access_log:
        logging.getLogger("trio_mcp.access").setLevel(logging.WARNING)
    for sentence in unread():
        logger.warning("%s", sentence)
    if transport == "stdio" and settings.given_for_auth:
        names = ", ".join(sorted(name.upper() for name in settings.given_for_auth))
        logger.warning("%s: without effect on stdio, where whoever starts the process owns it", names)


def announce(settings: Settings, text: str | None, waits_for: Sequence[str] = (), **fields: Any) -> None:
    """Say that the node is ready, or what it waits for: with `text` to people, in one line with `fields` to log collectors.

    None where people have had their text.
    """
    if text is not None and (settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())):
        print(text, file=sys.stderr, flush=True)
    elif waits_for:
        event(logger, logging.INFO, "listening", waits_for=", ".join(waits_for), **fields)
    else:
        event(logger, logging.INFO, "ready", **fields)


def ready_fields(server: MCPServer, settings: Settings, urls: list[str]) -> dict[str, str]:
    """What the line `ready` says."""
    return {"endpoint": ", ".join(urls), "server": server.name, "callers": _callers(server, settings)}


def banner(server: MCPServer, settings: Settings, urls: list[str], waits_for: Sequence[str] = ()) -> str:
    """What a person sees when the server answers, eight lines at most: its name, its URLs, and how to connect a client."""
    lines = [_title(server), _row("endpoint", f"{urls[0]}  ({_callers(server, settings)})")]
    if len(urls) > 1:
        lines.append(_row("also", ", ".join(urls[1:])))
    web = next((_reachable(url) for url in urls if url.startswith("http")), None)
    if web is not None:
        lines += _commands(server, web, waits_for)
    if settings.admin_bind:
        lines.append(_row("admin", settings.admin_bind))
    return "\n".join([*lines, _row("sessions", f"{_where(settings):<21} Ctrl+C stops")])


def _on_a_terminal(server: MCPServer) -> str:
    """What a person sees who runs a stdio server: without it, nothing, for it waits for messages."""
    return "\n".join(
        [
            _title(server),
            _row("stdio", "waits for JSON-RPC of a client, which starts this command itself; Ctrl+C stops"),
            _row("try", "trio-mcp call FILE TOOL name=value, or over HTTP: trio-mcp serve FILE"),
        ]
    )


def _callers(server: MCPServer, settings: Settings) -> str:
    """Who may call."""
    if settings.given_for_auth - {"auth_resource"}:
        return "asks for a token"
    if server.auth is None:
        return "open to all who reach it"
    return "asks auth= who calls" if callable(server.auth) else "asks for a token"


def _where(settings: Settings) -> str:
    """Where sessions are kept; not the URL of Redis, which may hold a password."""
    if settings.redis_url is None:
        return "memory (one node)"
    return "Redis, restored" if settings.restore else "Redis, not restored"


def _commands(server: MCPServer, url: str, waits_for: Sequence[str]) -> list[str]:
    waits = f"  (not yet: waits for {' and '.join(waits_for)})" if waits_for else ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", server.name).strip("-") or "server"
    return [
        _row("claude", f"claude mcp add --transport http {name} {url}"),
        _row("inspect", f"npx @modelcontextprotocol/inspector --server-url {url} --transport http"),
        _row("ready", urlunsplit(urlsplit(url)._replace(path="/readyz")) + waits),
    ]


def _title(server: MCPServer) -> str:
    count = len(server.registry.tools)
    versions = f"MCP {', '.join(MODERN_VERSIONS)} and sessions ({LEGACY_VERSIONS[0]} to {LEGACY_VERSIONS[-1]})"
    return f'trio-mcp {version()}  "{server.name}"  {count} tool{"" if count == 1 else "s"}  -  {versions}'


def _row(name: str, value: str) -> str:
    return f"  {name:<9} {value}"


def _reachable(url: str) -> str:
    """The URL with a loopback address in place of `0.0.0.0` or `::`."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
