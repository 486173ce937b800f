"""`serve`, `run` and `demo`: a server, its settings, and a node to run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.settings_flags import NO_FLAGS, SettingsFlags, given
from trio_mcp.serving.launch import launch
from trio_mcp.serving.loader import load_target
from trio_mcp.serving.settings import load, load_one, sources
from trio_mcp.serving.settings_report import of_http
from trio_mcp.serving.standard_streams import protocol_pipes

__all__ = ["demo", "run", "serve"]

DEMO_DRAIN_SECONDS = 1.0
"""Seconds: after Ctrl+C in the demo the prompt should be back at once."""


def serve(target: str, /, *, flags: SettingsFlags = NO_FLAGS) -> int:
    """Serve TARGET over HTTP.

    Every flag is also an environment variable: `--max-body` is `TRIO_MCP_MAX_BODY`. A flag wins over the environment,
    the environment over `--env-file`, that over `--config`. `trio-mcp config` shows what holds, and why.

    Parameters
    ----------
    target
        `file.py[:name]` or `package.module[:name]`; without a name: `mcp`, `server` or `app`.
    """
    return _over_http(target, flags)


def run(
    target: str,
    /,
    *,
    transport: Annotated[Literal["stdio", "http", "streamable-http"], Parameter(alias="-t")] = "stdio",
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
    if transport != "stdio":
        return _over_http(target, flags)
    _refuse_flags_of_http(given(flags))
    # Before TARGET is imported: what it prints must not reach the client.
    with protocol_pipes() as pipes:
        return launch(load_target(target), "stdio", load(**given(flags)), pipes)


def demo(*, flags: SettingsFlags = NO_FLAGS) -> int:
    """Serve a small server with three tools, a resource and a prompt."""
    from trio_mcp.cli.demo import mcp

    flagged = given(flags)
    if "drain_timeout" not in sources(**flagged):
        flagged["drain_timeout"] = DEMO_DRAIN_SECONDS
    return launch(mcp, "http", load(**flagged))


def _refuse_flags_of_http(flags: Mapping[str, Any]) -> None:
    without_effect = [f"--{name.replace('_', '-')}" for name in sorted(flags.keys() & of_http())]
    if without_effect:
        raise UsageError(f"{', '.join(without_effect)} means nothing on stdio: add `-t http`, or leave it out")


def _over_http(target: str, flags: SettingsFlags) -> int:
    """With several workers TARGET is not imported here, but by each of them."""
    flagged = given(flags)
    files = {name: flagged[name] for name in ("env_file", "config") if name in flagged}
    if load_one("workers", flagged.get("workers"), **files) == 1:
        return launch(load_target(target), "http", load(**flagged))
    from trio_mcp.serving.workers.launch import launch_workers

    return launch_workers(target, flagged)
