"""Notices that peers hang up, without a task per connection.

    sockets ──EPOLLRDHUP──▶ our epoll ──readable──▶ Trio's epoll ──▶ run() ──▶ callback

A task per connection that only waits for the end of the stream would cost every exchange two scheduler passes. The
kernel can wait instead: edge-triggered, a registered socket costs nothing until its peer closes, resets or times out,
and bytes that have not been read do not hide it.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

__all__ = ["Hangups"]


class Hangups:
    """Callbacks by file descriptor; Linux only."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """`callback` runs when the peer of `fd` is gone: from `run`, so never before this returns."""
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
        self._callbacks[fd] = callback

    def discard(self, fd: int) -> None:
        """Must come before `fd` is closed: its number will be used again."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Call the callbacks until cancelled; they must not block or raise."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()

    def close(self) -> None:
        """After every `discard`."""
        self._epoll.close()
