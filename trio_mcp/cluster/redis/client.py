"""The link to Redis: commands in worker threads, bounded in number and time, and a listener in a thread of its own.

A connection that broke is dropped and nothing is tried again: whether the commands were done is the caller's question.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import trio

from trio_mcp.cluster.redis.connection import Command, RedisConnection, RedisRoute
from trio_mcp.cluster.redis.url import parse
from trio_mcp.cluster.store.port import StoreDown, StoreRefuses
from trio_mcp.observability.logs import event

__all__ = ["RedisClient"]

RETRY_AFTER = 1.0
"""Between two attempts to subscribe."""
POLL = 0.25
"""How long the listener's thread waits without asking whether it is still wanted."""
STEP = 0.4
"""A step of the listener's connecting cannot be interrupted; its thread must end within 0.5 s all the same."""

_logger = logging.getLogger("trio_mcp.cluster")


class RedisClient:
    """Redis at `url`, connected to when it is first used; a connection per thread at most."""

    def __init__(
        self, url: str, *, connect_timeout: float = 0.5, command_timeout: float = 1.0, threads: int = 4
    ) -> None:
        understood = parse(url)
        self.shown: Final = understood.shown
        """The URL without user and password, for logs."""
        self._route = RedisRoute(understood)
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._threads = trio.CapacityLimiter(threads)
        self._pool = _Pool()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One pipeline, no transaction; a refused command's reply is an OperationRefused. Raises StoreDown."""
        patience = self._connect_timeout + self._command_timeout
        with trio.move_on_after(patience):  # also for a thread to be free, or for the host's name
            return await trio.to_thread.run_sync(
                self._exchange, commands, abandon_on_cancel=True, limiter=self._threads
            )
        raise StoreDown(f"no answer from Redis within {patience:g} s")

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """In a thread."""
        connection = self._pool.take() or self._route.connect(self._connect_timeout, self._command_timeout)
        with self._pool.back(connection):
            # Who gave up meanwhile thinks that no more will happen: a late write could undo a newer one.
            trio.from_thread.check_cancelled()
            return connection.ask(commands)

    async def listen(self, channel: str, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Until cancelled: `joined()` whenever the subscription stands (anew), `hear(data)` for each message."""
        limiter = trio.CapacityLimiter(1)
        lost = False

        def stands() -> None:
            nonlocal lost
            lost = False
            event(_logger, logging.INFO, "redis channel joined", channel=channel, redis=self.shown)
            joined()

        while True:
            try:
                await self._attend(channel, hear, stands, limiter)
            except StoreDown as down:
                if not lost:  # one line an outage
                    event(
                        _logger,
                        logging.ERROR if isinstance(down, StoreRefuses) else logging.WARNING,
                        "redis channel lost",
                        channel=channel,
                        redis=self.shown,
                        reason=str(down),
                    )
                lost = True
            await trio.sleep(RETRY_AFTER)

    async def _attend(
        self, channel: str, hear: Callable[[bytes], None], joined: Callable[[], None], limiter: trio.CapacityLimiter
    ) -> None:
        connection = await trio.to_thread.run_sync(self._connect_in_steps, abandon_on_cancel=True, limiter=limiter)
        try:
            # Not abandoned: what it hears must not reach a task that is gone.
            await trio.to_thread.run_sync(
                _pass_on, connection, channel, hear, joined, self._command_timeout, limiter=limiter
            )
        finally:
            connection.close()

    def _connect_in_steps(self) -> RedisConnection:
        """In a thread."""
        step = min(self._connect_timeout, STEP)
        connection = self._route.connect(step, step)
        with _closed_on_error(connection):
            trio.from_thread.check_cancelled()
        return connection

    def close(self) -> None:
        """Close what is idle; what is in use closes when its commands end."""
        self._pool.close()


def _pass_on(
    connection: RedisConnection,
    channel: str,
    hear: Callable[[bytes], None],
    joined: Callable[[], None],
    patience: float,
) -> None:
    """In a thread, until the connection breaks or the task is cancelled."""
    subscription = connection.subscribe(channel, patience=patience)
    while True:
        trio.from_thread.check_cancelled()
        match subscription.next(POLL):
            case [b"message", _, bytes(data)]:
                trio.from_thread.run_sync(hear, data)
            case [b"subscribe", *_]:
                trio.from_thread.run_sync(joined)


class _Pool:
    """Idle connections; taken from and given back to in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[RedisConnection] = []
        self._closed = False

    def take(self) -> RedisConnection | None:
        """The one used last, if it is still good."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()

    @contextmanager
    def back(self, connection: RedisConnection) -> Iterator[None]:
        """Keep it when the block went well."""
        try:
            with _closed_on_error(connection):
                yield
        except StoreDown:
            self._clear()  # what broke one likely broke all; a new one learns so within the shorter timeout
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Keep none from now on."""
        with self._lock:
            self._closed = True
        self._clear()

    def _clear(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


@contextmanager
def _closed_on_error(connection: RedisConnection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
