"""The ASGI lifespan protocol from both sides: of our app for its server, and of mounted apps for us."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from trio_mcp.dispatch.user_code import user_code
from trio_mcp.observability.logs import event, leaf_lines
from trio_mcp.protocol.errors import McpError
from trio_mcp.sessions.stop_times import MOUNTED_APP_SECONDS
from trio_mcp.transports.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MountFailed", "lifespan_of", "refuse_foreign_loop", "require_trio", "serve_lifespan"]

logger: logging.Logger = logging.getLogger("trio_mcp.http")

NEEDS_TRIO = (
    'trio-mcp runs on Trio, and this server runs its apps on asyncio. Use `trio-mcp serve`, mcp.run("http"), or Hypercorn '
    "with --worker-class trio"
)


class MountFailed(McpError):
    """A mounted app sent `lifespan.startup.failed`."""


class _Runnable(Protocol):
    @property
    def is_running(self) -> bool: ...
    def running(self) -> AbstractAsyncContextManager[None]: ...


async def serve_lifespan(app: _Runnable, receive: Receive, send: Send) -> None:
    """Run the app from `lifespan.startup` to `lifespan.shutdown`. If it runs already, by `app.running()`, only answer."""
    await receive()
    if app.is_running:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    elif not await _run(app, receive, send):
        return
    await send({"type": "lifespan.shutdown.complete"})


def require_trio() -> None:
    """Raises RuntimeError on another event loop than Trio's."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(NEEDS_TRIO)


async def refuse_foreign_loop(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse to run on another event loop than Trio's: the lifespan fails, and requests raise RuntimeError."""
    if scope["type"] != "lifespan":
        raise RuntimeError(NEEDS_TRIO)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": NEEDS_TRIO})


async def _run(app: _Runnable, receive: Receive, send: Send) -> bool:
    """Whether the app started. A failure is sent, not raised: a server takes an app that raises for one without a lifespan."""
    started = False
    try:
        async with app.running():
            started = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except Exception as crash:  # the boundary of the user's lifespan: the server decides whether the process ends
        if started:
            raise
        event(logger, logging.ERROR, "startup failed", error=crash)
        await send({"type": "lifespan.startup.failed", "message": "; ".join(leaf_lines(crash))})
    return started


@asynccontextmanager
async def lifespan_of(app: ASGIApp) -> AsyncIterator[None]:
    """Run the lifespan of a mounted app, if it has one, around the block. Raises MountFailed when it fails to start."""
    async with trio.open_nursery() as nursery:
        mounted = _Mounted(app)
        nursery.start_soon(mounted.run)
        await mounted.started.wait()
        if mounted.failure is not None:
            raise MountFailed(f"A mounted app failed to start: {mounted.failure}")
        try:
            yield
        finally:
            mounted.stop.set()
            with trio.move_on_after(MOUNTED_APP_SECONDS, shield=True):
                await mounted.stopped.wait()
            nursery.cancel_scope.cancel("the mounted app had its time to clean up")


class _Mounted:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._told = False
        self.started = trio.Event()
        self.stop = trio.Event()
        self.stopped = trio.Event()
        self.failure: str | None = None

    async def run(self) -> None:
        try:
            with user_code():
                await self._app(
                    {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._receive, self._send
                )
        except Exception:
            # An app without a lifespan raises (ASGI lifespan: "the server must continue").
            if self.started.is_set():
                raise
        finally:
            self.started.set()
            self.stopped.set()

    async def _receive(self) -> Message:
        if not self._told:
            self._told = True
            await trio.lowlevel.checkpoint()
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            self.failure = str(message.get("message", ""))
        if message["type"].startswith("lifespan.startup"):
            self.started.set()
        await trio.lowlevel.checkpoint()
