"""Runs the supervisor of a node with several workers as a process: its log, its banner, one `trio.run`, the exit code."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import trio

from trio_mcp.serving.launch import announce, check_server, expected_error_alone, prepare_process
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.workers.division import check_divisible
from trio_mcp.serving.workers.messages import Ready
from trio_mcp.serving.workers.supervisor import supervise

__all__ = ["launch_workers"]


def launch_workers(target: str, flags: dict[str, Any]) -> int:
    """Serve TARGET with several processes until stopped, and return the exit code. `flags` are the settings of the command line.

    Raises SettingsError, McpError where Hypercorn is not installed, CannotListen, and WorkerFailed when the first worker does not start.
    """
    settings = load(**flags)
    check_divisible(settings)
    check_server(settings)
    prepare_process(settings, "http")
    return trio.run(partial(_supervise, target, flags, settings))


async def _supervise(target: str, flags: dict[str, Any], settings: Settings) -> int:
    def ready(said: Ready) -> None:
        text = f"{said.banner}\n  {'workers':<9} {settings.workers}"
        announce(settings, text, **said.fields, workers=settings.workers)

    with expected_error_alone():
        return await supervise(target, flags, settings, path=sys.path, announce=ready)
