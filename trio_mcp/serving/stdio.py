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
    starting, serving = trio.CancelScope(), trio.CancelScope()
    loop = trio.lowlevel.current_trio_token()

    def begin() -> None:
        deadlines.begin(STDIO_CALLS_SECONDS)

    def stop_on_signal(number: int) -> None:
        begin()
        loop.run_sync_soon(stop_from_loop)

    def stop_from_loop() -> None:
        serving.cancel("a signal came")
        if not deadlines.is_serving:
            starting.cancel("a signal came before the server was ready")

    with owning_sigint(), handling_signals(stop_on_signal, keep=owns_process):
        try:
            with starting:
                async with running(partial(deadlines.lifespan, server.lifespan), service, hub):
                    deadlines.serving()
                    stdin, stdout = (trio.lowlevel.FdStream(os.dup(each)) for each in (pipes.stdin, pipes.stdout))
                    async with stdin, stdout:
                        with serving:
                            wire = StdioServer(service, hub, max_message=settings.max_body)
                            await wire.serve(stdin, stdout, ending=begin)
            deadlines.cleaned_up()
        finally:
            deadlines.over(process_ends=owns_process)
    return deadlines.code


def _still_running(service: Service) -> list[str]:
    return [call.label for call in list(service.in_flight)]
