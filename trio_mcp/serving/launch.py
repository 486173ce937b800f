"""From a server and its settings to an exit code: logs, the banner, one `trio.run`."""

from __future__ import annotations

import gc
import logging
import re
import sys
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import trio

from trio_mcp.observability.build import version
from trio_mcp.observability.logs import configure, event, leaves, log_stray_errors
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.settings_report import ignored, strangers
from trio_mcp.serving.standard_streams import Pipes, open_missing_streams, protocol_pipes

if TYPE_CHECKING:
    from trio_mcp.server import MCPServer

__all__ = ["Transport", "banner", "launch", "serve_on"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

GC_THRESHOLDS = (20_000, 20, 20)
"""A generation is looked through after so many allocations, or so many looks at the one before; Python's: 700, 10, 10."""

Transport: TypeAlias = Literal["stdio", "http"]


def launch(server: MCPServer, transport: Transport, settings: Settings, pipes: Pipes | None = None) -> int:
    """Serve until stopped; the exit code. `pipes` are taken already, on stdio, where user code was imported in between.

    Raises McpError when the server cannot be served as asked. A crash is logged, and its code is 1.
    """
    open_missing_streams()
    _start_logs(settings, transport)
    _collect_seldom()
    try:
        return trio.run(partial(serve_on, server, transport, settings, pipes, owns_process=True))
    except McpError:
        raise
    except Exception as crash:  # of the user's lifespan, or of ours: as all else, one line of the log
        event(logger, logging.ERROR, "the server crashed", error=crash)
        return 1


async def serve_on(
    server: MCPServer,
    transport: Transport,
    settings: Settings,
    pipes: Pipes | None = None,
    *,
    owns_process: bool = False,
) -> int:
    """The same inside a `trio.run` that is there already, with its logs; its process goes on unless `owns_process`."""
    # Late: one of the two is not needed.
    if transport == "stdio":
        from trio_mcp.serving.stdio import run_stdio

        with nullcontext(pipes) if pipes is not None else protocol_pipes() as taken:
            return await run_stdio(server, settings, taken, owns_process=owns_process)
    return await _over_http(server, settings, owns_process=owns_process)


def _collect_seldom() -> None:
    """A request leaves no cycles behind, and a session lives long: looking for garbage among them cost a third of opening one."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _over_http(server: MCPServer, settings: Settings, *, owns_process: bool) -> int:
    from trio_mcp.serving.node import serve

    if settings.server == "hypercorn" and find_spec("hypercorn") is None:
        raise McpError("--server hypercorn needs a package more: pip install 'trio-mcp[hypercorn]'")
    ready = partial(_announce, server, settings)
    try:
        interactive = sys.stderr.isatty()
        return await serve(server, settings, announce=ready, interactive=interactive, owns_process=owns_process)
    except ExceptionGroup as group:
        (cause, *more) = leaves(group)
        if more or not isinstance(cause, McpError):
            raise
        # What we foresaw is told by itself: the nurseries it passed through are of no interest.
        raise cause from group


def _start_logs(settings: Settings, transport: Transport) -> None:
    level = settings.log_level
    if transport == "stdio" and "log_level" not in settings.model_fields_set:
        # Clients show their users what servers write to stderr.
        level = "WARNING"
    configure(level, settings.log_format, node=settings.node_id)
    log_stray_errors()
    if not settings.access_log:
        logging.getLogger("trio_mcp.access").setLevel(logging.WARNING)
    for name in ignored():
        logger.warning("%s is ignored: what it says is no setting of trio-mcp", name)
    for name, hint in strangers().items():
        logger.warning("%s is no setting of trio-mcp%s", name, f"; did you mean {hint}?" if hint else "")


def _announce(server: MCPServer, settings: Settings, urls: list[str]) -> None:
    """People get a banner, log collectors one line."""
    if settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty()):
        print(banner(server, settings, urls), file=sys.stderr, flush=True)
    else:
        event(logger, logging.INFO, "ready", endpoint=", ".join(urls), server=server.name)


def banner(server: MCPServer, settings: Settings, urls: list[str]) -> str:
    """Name, endpoint, and the commands that connect a client to it."""
    lines = [_title(server), _row("endpoint", urls[0])]
    if len(urls) > 1:
        lines.append(_row("also", ", ".join(urls[1:])))
    web = next((_reachable(url) for url in urls if url.startswith("http")), None)
    if web is not None:
        lines += _commands(server, web)
    if settings.admin_bind:
        lines.append(_row("admin", settings.admin_bind))
    return "\n".join([*lines, _row("sessions", f"{_where(settings):<21} Ctrl+C stops")])


def _where(settings: Settings) -> str:
    """Where sessions are found; the URL of Redis is a secret."""
    if settings.redis_url is None:
        return "memory (one node)"
    return "Redis, restored" if settings.restore else "Redis, not restored"


def _commands(server: MCPServer, url: str) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", server.name).strip("-") or "server"
    return [
        _row("claude", f"claude mcp add --transport http {name} {url}"),
        _row("inspect", f"npx @modelcontextprotocol/inspector --server-url {url} --transport http"),
        _row("ready", urlunsplit(urlsplit(url)._replace(path="/readyz"))),
    ]


def _title(server: MCPServer) -> str:
    count = len(server.registry.tools)
    versions = f"MCP {', '.join(MODERN_VERSIONS)} and sessions ({LEGACY_VERSIONS[0]} to {LEGACY_VERSIONS[-1]})"
    return f'trio-mcp {version()}  "{server.name}"  {count} tool{"" if count == 1 else "s"}  -  {versions}'


def _row(name: str, value: str) -> str:
    return f"  {name:<9} {value}"


def _reachable(url: str) -> str:
    """A server bound to every address is reached by this machine's own."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
