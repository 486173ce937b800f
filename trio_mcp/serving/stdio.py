"""Serves a process over stdio: its parts, its signals, and the order in which it stops."""

from __future__ import annotations

import os
from functools import partial

import trio

from trio_mcp.dispatch.call import Service
from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.server import MCPServer
from trio_mcp.serving.composition import options_of
from trio_mcp.serving.last_resort import LastResort
from trio_mcp.serving.process_limits import account_of
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.signals import handling_signals
from trio_mcp.serving.standard_streams import Pipes
from trio_mcp.serving.stop_deadlines import StopDeadlines
from trio_mcp.sessions.hub import HubOptions, random_node_id
from trio_mcp.sessions.stop_times import STDIO_CALLS_SECONDS
from trio_mcp.transports.running import running
from trio_mcp.transports.stdio import StdioServer

__all__ = ["run_stdio"]


async def run_stdio(server: MCPServer, settings: Settings, pipes: Pipes, *, owns_process: bool = False) -> int:
    """Serve on `pipes` until stdin ends or a signal comes, and return the exit code: 0, or 1 if the user's cleanup was cut short.

    `owns_process` as for `node.serve`.
    """
    service = server.service(
        options_of(server, settings), secrets=settings.keys, transport="pipe", account=account_of(settings)
    )
    hub = server.hub(service, HubOptions(node_id=settings.node_id or random_node_id()))
    deadlines = StopDeadlines(
        LastResort(lambda: _still_running(service)),
        has_lifespan=server.has_lifespan,
        cleanup=settings.cleanup_timeout,
    )
    process = _Process(deadlines)
    with owning_sigint(), handling_signals(process.stop_on_signal, keep=owns_process):
        try:
            with process.starting:
                async with running(partial(deadlines.lifespan, server.lifespan), service, hub):
                    await process.serve(StdioServer(service, hub, max_message=settings.max_body), pipes)
            deadlines.cleaned_up()
        finally:
            deadlines.over(process_ends=owns_process)
    return deadlines.code


class _Process:
    """Serves until stdin ends, or a signal comes, which also ends a start that waits for something."""

    def __init__(self, deadlines: StopDeadlines) -> None:
        self.starting = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._deadlines = deadlines
        self._loop = trio.lowlevel.current_trio_token()

    async def serve(self, server: StdioServer, pipes: Pipes) -> None:
        self._deadlines.serving()
        stdin, stdout = (trio.lowlevel.FdStream(os.dup(each)) for each in (pipes.stdin, pipes.stdout))
        async with stdin, stdout:
            with self._serving:
                await server.serve(stdin, stdout, ending=self._begin_to_stop)

    def stop_on_signal(self, number: int) -> None:
        """Called within the handler of the first stop signal, `number`."""
        self._begin_to_stop()
        self._loop.run_sync_soon(self._stop_from_loop)

    def _begin_to_stop(self) -> None:
        self._deadlines.begin(STDIO_CALLS_SECONDS)

    def _stop_from_loop(self) -> None:
        self._serving.cancel("a signal came")
        if not self._deadlines.is_serving:
            self.starting.cancel("a signal came before the server was ready")


def _still_running(service: Service) -> list[str]:
    return [call.label for call in list(service.in_flight)]
