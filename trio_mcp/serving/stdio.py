"""Serving on this process's own stdin and stdout."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import trio

from trio_mcp.dispatch.service import Service
from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.server import MCPServer
from trio_mcp.serving.exit import no_longer_than
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.wiring import options_of
from trio_mcp.transports.running import running
from trio_mcp.transports.stdio import StdioServer

__all__ = ["run_stdio"]

LAST_RESORT_SECONDS = 1.5
"""From stdin's end, or a signal, to the end of the process, whatever refuses to stop."""


async def run_stdio(server: MCPServer, settings: Settings) -> int:
    """Serve until stdin ends or a signal comes; the exit code."""
    service = server.service(options_of(server, settings), secrets=settings.keys, transport="pipe")
    hub = server.hub(service, node_id=settings.node_id)
    with _protocol_streams() as (stdin, stdout), ExitStack() as last_resort:
        async with running(server.lifespan, service, hub), trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
            wire = StdioServer(service, hub, max_message=settings.max_body)
            await wire.serve(stdin, stdout, ending=partial(_arm, last_resort, service))
            nursery.cancel_scope.cancel("stdin ended")
    return 0


def _arm(last_resort: ExitStack, service: Service) -> None:
    """From here on the clock runs. Armed again it is one timer more, and the first one counts."""
    last_resort.enter_context(
        no_longer_than(LAST_RESORT_SECONDS, 0, lambda: [call.method for call in list(service.in_flight)])
    )


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    signals: AsyncIterator[int]
    with owning_sigint(), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await anext(signals)
        scope.cancel("a signal came")


@contextmanager
def _protocol_streams() -> Iterator[tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]]:
    """Our own copies of stdin and stdout: what a handler prints must not break the protocol.

    Meanwhile descriptor 1 is stderr, and 0 is empty: a child process (ffmpeg, ssh) would take requests for its input.
    """
    sys.stdout.flush()
    stdin, stdout = trio.lowlevel.FdStream(os.dup(0)), trio.lowlevel.FdStream(os.dup(1))
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        yield stdin, stdout
    finally:
        sys.stdout.flush()
        os.dup2(stdin.fileno(), 0)
        os.dup2(stdout.fileno(), 1)
        stdin.close()
        stdout.close()
