"""The same app behind Hypercorn's trio worker: TLS, HTTP/2. The only module that imports Hypercorn.

What Hypercorn cannot: it writes under a shield without a deadline, so a client that stopped reading holds its connection
until `graceful_timeout`, and in the end the process's last resort. It has no deadline for heads and bodies either.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import trio

from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import Settings
from trio_mcp.transports.http.app import HttpApp

__all__ = ["CertificateError", "HypercornFront"]

USER_TIMEOUT_MS = 30_000
"""As on our own listener: a peer that vanished must not swallow keep-alives for 15 minutes."""

GRACE_SECONDS = 0.2
"""Hypercorn is told to stop when every exchange has ended; what it then waits for is not worth waiting for."""


class CertificateError(McpError):
    """Certificate and key cannot be used; the text says why and what they have to be."""


class HypercornFront:
    """Runs until its nursery is cancelled, or stopped through Hypercorn's shutdown trigger."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self._stopping = trio.Event()
        self._stopped = trio.Event()

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        app: HttpApp,
        settings: Settings,
        sockets: Sequence[trio.socket.SocketType],
        urls: list[str],
    ) -> HypercornFront:
        """Serve on sockets that listen already; raises CertificateError."""
        front = cls(urls)
        config = _config(settings)
        config.bind = [f"fd://{_hand_over(each)}" for each in sockets]
        await nursery.start(front._run, app, config)
        return front

    async def stop(self) -> None:
        """Let Hypercorn close its connections; the nursery's cancel ends what it does not."""
        self._stopping.set()
        with trio.move_on_after(GRACE_SECONDS):
            await self._stopped.wait()

    async def _run(self, app: HttpApp, config: Any, *, task_status: trio.TaskStatus[Any]) -> None:
        from hypercorn.trio import serve

        app_for_hypercorn: Any = app
        try:
            await serve(app_for_hypercorn, config, shutdown_trigger=self._stopping.wait, task_status=task_status)
        finally:
            self._stopped.set()


def _config(settings: Settings) -> Any:
    from hypercorn.config import Config

    config = Config()
    if settings.certfile is not None:
        # Hypercorn serves without TLS unless it has both: the key may well be in the certificate's file.
        config.certfile, config.keyfile = str(settings.certfile), str(settings.keyfile or settings.certfile)
        _check_certificate(config)
    config.h11_max_incomplete_size = config.h2_max_header_list_size = settings.max_head
    config.keep_alive_timeout = settings.connection_idle_timeout
    config.graceful_timeout = GRACE_SECONDS
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    return config


def _check_certificate(config: Any) -> None:
    try:
        config.create_ssl_context()
    except (ssl.SSLError, OSError) as error:
        files = f"{config.certfile} and {config.keyfile}"
        step = "Give a PEM certificate chain, and the PEM key that belongs to it"
        raise CertificateError(f"cannot serve TLS with {files}: {error}. {step}") from error


def _hand_over(listening: trio.socket.SocketType) -> int:
    """A descriptor of our own making, so that accepted connections inherit our socket option."""
    if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    descriptor = os.dup(listening.fileno())
    listening.close()
    return descriptor
