"""The same app behind Hypercorn's trio worker: TLS, HTTP/2. The only module that imports Hypercorn.

What Hypercorn cannot: it writes under a shield without a deadline, so a client that stopped reading holds its connection
until `graceful_timeout`, and in the end the process's last resort.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import Settings
from trio_mcp.transports.http.app import HttpApp

__all__ = ["HypercornFront", "HypercornMissing"]

USER_TIMEOUT_MS = 30_000
"""As on our own listener: a peer that vanished must not swallow keep-alives for 15 minutes."""

GRACE_SECONDS = 0.2
"""Hypercorn is told to stop when every exchange has ended; what it then waits for is not worth waiting for."""


class HypercornMissing(McpError):
    """`--server hypercorn` without the package."""


class HypercornFront:
    """Runs until its nursery is cancelled, or stopped through Hypercorn's shutdown trigger."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self._stopping = trio.Event()

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        app: HttpApp,
        settings: Settings,
        sockets: Sequence[trio.socket.SocketType],
        urls: list[str],
    ) -> HypercornFront:
        """Serve on sockets that listen already; raises HypercornMissing."""
        front = cls(urls)
        await nursery.start(front._run, app, _config(settings, sockets))
        return front

    async def stop(self) -> None:
        """Let Hypercorn close its connections; the nursery's cancel ends what it does not."""
        self._stopping.set()
        await trio.sleep(GRACE_SECONDS)

    async def _run(self, app: HttpApp, config: Any, *, task_status: trio.TaskStatus[Any]) -> None:
        from hypercorn.trio import serve

        app_for_hypercorn: Any = app
        await serve(app_for_hypercorn, config, shutdown_trigger=partial(self._stopping.wait), task_status=task_status)


def _config(settings: Settings, sockets: Sequence[trio.socket.SocketType]) -> Any:
    try:
        from hypercorn.config import Config
    except ImportError:
        raise HypercornMissing("--server hypercorn needs the package: pip install 'trio-mcp[hypercorn]'") from None
    config = Config()
    config.bind = [f"fd://{_hand_over(each)}" for each in sockets]
    config.certfile = None if settings.certfile is None else str(settings.certfile)
    config.keyfile = None if settings.keyfile is None else str(settings.keyfile)
    config.keep_alive_timeout = settings.connection_idle_timeout
    config.graceful_timeout = GRACE_SECONDS
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    return config


def _hand_over(listening: trio.socket.SocketType) -> int:
    """A descriptor of our own making, so that accepted connections inherit our socket option."""
    if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    descriptor = os.dup(listening.fileno())
    listening.close()
    return descriptor
