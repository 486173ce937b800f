"""redis-py, which blocks, for tasks: commands in worker threads, bounded in number and time, and a thread that listens.

task ── run(commands) ──▶ limiter: 4 threads ──▶ thread ──▶ _Pool, under its lock ──▶ an idle connection, or a new one
  │                                                │                                          │
  ├─ waits `connect_timeout + command_timeout` ────┼── reply ◀── one pipeline ◀───────────────┘
  └─ then gives up: StoreDown                      └─ the thread ends by itself, within the connection's timeouts:
                                                      it asks whether it was given up before it sends, not after

task ── listen(channel) ─▶ a thread of its own ──▶ a connection of its own: SUBSCRIBE, then what comes, every POLL seconds
  ◀── hear(data), joined(), in the event loop ──┘   broken: once more after RETRY_AFTER

- A thread that was given up may still do its commands: StoreDown leaves open whether they were done. Nothing is sent twice here.
- Two runs use two connections, so that the earlier may arrive last. Where order matters, the caller waits for the first reply before it
  runs the next commands (`RecordWriter.order`).
- A connection that broke is closed, and so are the idle ones: what broke one has most likely broken all.
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
"""Seconds between two attempts to subscribe."""
POLL = 0.25
"""Seconds between two looks of the listening thread at whether its task was cancelled."""
STEP = 0.4
"""Seconds for a step of connecting to listen: it cannot be interrupted, and its thread must end within 0.5 s of a cancellation."""

_logger = logging.getLogger("trio_mcp.cluster")


class RedisClient:
    """Redis at `url`: connected to when it is first used, with a connection for each thread at most.

    `connect_timeout` and `command_timeout` are in seconds; `threads` is how many pipelines run at the same time. Raises
    InvalidRedisUrl.
    """

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
        """The replies to one pipeline, without a transaction. The reply to a refused command is an OperationRefused. Raises StoreDown."""
        patience = self._connect_timeout + self._command_timeout
        with trio.move_on_after(patience):  # includes the wait for a free thread, and for the address of the host
            return await trio.to_thread.run_sync(
                self._exchange, commands, abandon_on_cancel=True, limiter=self._threads
            )
        raise StoreDown(f"no answer from Redis within {patience:g} s")

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """In a thread."""
        connection = self._pool.take() or self._route.connect(self._connect_timeout, self._command_timeout)
        with self._pool.back(connection):
            # The task may have given up while we connected. A write that it does not expect any more could undo a newer one.
            trio.from_thread.check_cancelled()
            return connection.ask(commands)

    async def listen(self, channel: str, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Until cancelled, call `joined()` whenever a subscription begins and `hear(data)` for each message, in the event loop."""
        limiter = trio.CapacityLimiter(1)
        lost = False

        def stands() -> None:
            nonlocal lost
            lost = False
            event(_logger, logging.INFO, "redis channel joined", channel=channel, redis=self.shown)
            joined()

        while True:
            try:
                await self._subscribe(channel, hear, stands, limiter)
            except StoreDown as down:
                if not lost:  # one line for each outage
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

    async def _subscribe(
        self, channel: str, hear: Callable[[bytes], None], joined: Callable[[], None], limiter: trio.CapacityLimiter
    ) -> None:
        connection = await trio.to_thread.run_sync(self._connect_in_steps, abandon_on_cancel=True, limiter=limiter)
        try:
            # Not abandoned: it calls `hear`, which must not happen after this task has ended.
            await trio.to_thread.run_sync(
                _hear_messages, connection, channel, hear, joined, self._command_timeout, limiter=limiter
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
        """Close idle connections; those in use close when their commands end."""
        self._pool.close()


def _hear_messages(
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
    """Idle connections. Threads take them and bring them back, so a lock guards the list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[RedisConnection] = []
        self._closed = False

    def take(self) -> RedisConnection | None:
        """The connection used last that is still open; None when there is none."""
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
        """Keep the connection if the block raises nothing."""
        try:
            with _closed_on_error(connection):
                yield
        except StoreDown:
            self._clear()  # most likely broken, too; a new connection fails within the shorter timeout
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all, and from now on each that is brought back."""
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
