"""What a person sees when their server is ready: at most eight lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from trio_mcp.observability.build import version
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS

if TYPE_CHECKING:
    from trio_mcp.server import MCPServer
    from trio_mcp.serving.settings import Settings

__all__ = ["banner"]


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
