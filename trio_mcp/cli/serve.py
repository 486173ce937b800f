"""`serve`, `run` and `demo`: a server, its settings, and a node to run it."""

from __future__ import annotations

import errno
import logging
import os
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.banner import banner
from trio_mcp.cli.flags import NO_FLAGS, SettingsFlags, given
from trio_mcp.observability.logs import configure, event, leaves
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.explain import strangers
from trio_mcp.serving.loader import load_target
from trio_mcp.serving.settings import Settings, load, sources

if TYPE_CHECKING:
    from trio_mcp.server import MCPServer

__all__ = ["demo", "run", "serve"]

logger = logging.getLogger("trio_mcp.cli")

_NEXT_STEP = {
    errno.EADDRINUSE: "Stop the process that has it, or choose another with --port",
    errno.EADDRNOTAVAIL: "This machine has no such address: see --host and --bind",
    errno.EACCES: "Ports below 1024, and some folders, need more rights",
}

DEMO_DRAIN_SECONDS = 1.0
"""Whoever tries the demo presses Ctrl+C and expects their prompt back."""

Workers = Annotated[
    int,
    Parameter(help="Always 1: a session lives in one process. Run more nodes instead.", show_default=False),
]


def serve(target: str, /, *, workers: Workers = 1, flags: SettingsFlags = NO_FLAGS) -> int:
    """Serve TARGET over HTTP.

    Every flag is also an environment variable: `--max-body` is `TRIO_MCP_MAX_BODY`. A flag wins over the environment,
    the environment over `--env-file`, that over `--config`. `trio-mcp config` shows what holds, and why.

    Parameters
    ----------
    target
        `file.py[:name]` or `package.module[:name]`; without a name: `mcp`, `server` or `app`.
    """
    _refuse_workers(workers)
    return _over_http(load_target(target), load(**given(flags)))


def run(
    target: str,
    /,
    *,
    transport: Annotated[Literal["stdio", "http", "streamable-http"], Parameter(alias="-t")] = "stdio",
    workers: Workers = 1,
    flags: SettingsFlags = NO_FLAGS,
) -> int:
    """Run TARGET, over stdio unless `-t http` says otherwise.

    Parameters
    ----------
    target
        `file.py[:name]` or `package.module[:name]`; without a name: `mcp`, `server` or `app`.
    transport
        `streamable-http` is another name for `http`. There is no `sse`: that transport ended with 2024-11-05.
    """
    _refuse_workers(workers)
    settings = load(**given(flags))
    if transport == "stdio":
        return _over_stdio(load_target(target), settings)
    return _over_http(load_target(target), settings)


def demo(*, flags: SettingsFlags = NO_FLAGS) -> int:
    """Serve a small server with three tools, a resource and a prompt."""
    from trio_mcp.cli.demo import mcp

    flagged = given(flags)
    if "drain_timeout" not in sources(**flagged):
        flagged["drain_timeout"] = DEMO_DRAIN_SECONDS
    return _over_http(mcp, load(**flagged))


def _refuse_workers(workers: int) -> None:
    if workers != 1:
        raise UsageError(
            f"--workers {workers}: a session lives in one process, and workers share a port but no sessions. "
            "Run more nodes instead, each with a port of its own, behind a balancer"
        )


def _over_stdio(server: MCPServer, settings: Settings) -> int:
    import trio

    from trio_mcp.serving.stdio import run_stdio

    _start_logs(settings)
    return trio.run(run_stdio, server, settings)


def _over_http(server: MCPServer, settings: Settings) -> int:
    import trio

    from trio_mcp.serving.node import serve as serve_node

    if settings.server == "hypercorn" and find_spec("hypercorn") is None:
        raise McpError("--server hypercorn needs a package more: pip install 'trio-mcp[hypercorn]'")
    _start_logs(settings)
    ready = partial(_announce, server, settings)
    try:
        return trio.run(partial(serve_node, server, settings, announce=ready, interactive=sys.stderr.isatty()))
    except (OSError, ExceptionGroup) as error:
        problem = _cannot_listen(error, settings)
        if problem is None:
            raise
        raise problem from error


def _cannot_listen(error: BaseException, settings: Settings) -> McpError | None:
    """The error in words when an address could not be had, None when it is about something else."""
    places = ", ".join([*settings.binds, *([settings.admin_bind] if settings.admin_bind else [])])
    for leaf in leaves(error):
        if isinstance(leaf, OSError) and leaf.errno in _NEXT_STEP:
            return McpError(f"cannot listen on {places}: {os.strerror(leaf.errno).lower()}. {_NEXT_STEP[leaf.errno]}")
    return None


def _start_logs(settings: Settings) -> None:
    configure(settings.log_level, settings.log_format, node=settings.node_id)
    for name, hint in strangers().items():
        logger.warning("%s is no setting of trio-mcp%s", name, f"; did you mean {hint}?" if hint else "")


def _announce(server: MCPServer, settings: Settings, urls: list[str]) -> None:
    """People get a banner, log collectors one line."""
    if settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty()):
        print(banner(server, settings, urls), file=sys.stderr, flush=True)
    else:
        event(logger, logging.INFO, "ready", endpoint=", ".join(urls), server=server.name)
