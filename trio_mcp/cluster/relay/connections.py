"""Connections to peers, kept between requests."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from trio_mcp.cluster.relay.connecting import connect

__all__ = ["Connection", "Connections"]

READ_BYTES = 64 * 1024


class Connection:
    """A connected, non-blocking socket, which it owns. One task uses it at a time."""

    __slots__ = ("_socket", "idle_since", "url")

    def __init__(self, connected: socket.socket, url: str) -> None:
        self._socket = connected
        self.url = url
        self.idle_since = 0.0

    def send_now(self, data: bytes | memoryview) -> int:
        """How many bytes the kernel took, perhaps none; raises OSError when the peer is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def receive_now(self) -> bytes | None:
        """What is here; None when nothing is."""
        try:
            return self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None

    async def receive(self) -> bytes:
        """Wait for bytes, empty at the peer's end; raises OSError when it is gone."""
        while True:
            await self.readable()
            data = self.receive_now()
            if data is not None:
                return data

    async def writable(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def readable(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)

    def is_quiet(self) -> bool:
        """Nothing has come that nobody read, not even the peer's end."""
        with suppress(OSError):
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return True
        return False

    def close(self) -> None:
        """At once; the peer sees its client leave."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class Connections:
    """Of each peer the connections that wait for the next request: `max_idle` at most, for `idle_timeout` seconds.

    There is no task behind it: whoever brings a connection back looks, once in a while, for those that have waited too long.
    """

    def __init__(self, *, connect_timeout: float, idle_timeout: float, max_idle: int) -> None:
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._idle: dict[str, list[Connection]] = {}
        self._next_sweep = 0.0
        self._closed = False

    def kept(self, url: str) -> Connection | None:
        """One to send on at once: the last used that is neither too old nor closed by the peer."""
        waiting = self._idle.get(url)
        oldest = trio.current_time() - self._idle_timeout
        while waiting:
            connection = waiting.pop()
            if connection.idle_since >= oldest and connection.is_quiet():
                return connection
            connection.close()
        return None

    async def open(self, url: str) -> Connection:
        """A new one. Raises ConnectionRefusedError when nobody listens there, else OSError."""
        return Connection(await connect(url, self._connect_timeout), url)

    def keep(self, connection: Connection) -> None:
        """Its response is complete, and it may serve another request."""
        now = trio.current_time()
        if now >= self._next_sweep:
            self._sweep(now)
        waiting = self._idle.setdefault(connection.url, [])
        if self._closed or len(waiting) >= self._max_idle:
            return connection.close()
        connection.idle_since = now
        waiting.append(connection)

    def close(self) -> None:
        """Close what waits, and from now on what comes back."""
        self._closed = True
        for waiting in self._idle.values():
            for connection in waiting:
                connection.close()
        self._idle.clear()

    @property
    def idle(self) -> int:
        """How many wait."""
        return sum(map(len, self._idle.values()))

    def _sweep(self, now: float) -> None:
        """Peers come and go; what waits for one that is not asked any more would wait for ever."""
        self._next_sweep = now + self._idle_timeout
        for url, waiting in list(self._idle.items()):
            # The last used is at the end, so the old ones are in front.
            while waiting and waiting[0].idle_since < now - self._idle_timeout:
                waiting.pop(0).close()
            if not waiting:
                del self._idle[url]
