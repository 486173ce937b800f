"""`mcp.run()`: settings from keywords and environment, logs, one `trio.run`."""

from __future__ import annotations

import sys
from typing import Any, Literal

import trio

from trio_mcp.observability import logs
from trio_mcp.server import MCPServer
from trio_mcp.serving.settings import load

__all__ = ["run"]


def run(server: MCPServer, transport: Literal["stdio", "http"], given: dict[str, Any]) -> None:
    """Serve until stopped, then exit the process with the node's exit code. Raises SettingsError."""
    settings = load(**given)
    logs.configure(settings.log_level, settings.log_format)
    if transport == "stdio":
        from trio_mcp.serving.stdio import run_stdio

        code = trio.run(run_stdio, server, settings)
    else:
        from trio_mcp.serving.node import serve

        code = trio.run(lambda: serve(server, settings, interactive=sys.stdin.isatty()))
    sys.exit(code)
