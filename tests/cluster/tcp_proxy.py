"""A TCP proxy between one node and Redis that can be cut: Redis is away for that node alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

__all__ = ["TcpProxy", "tcp_proxy"]

_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class TcpProxy:
    """A TCP proxy on a port of its own."""

    def __init__(self, target: int) -> None:
        self.url = ""
        self.port = 0
        self._target = target
        self._broken = trio.Event()

    def lead_to(self, port: int) -> None:
        """What connects from now on."""
        self._target = port

    def cut(self) -> None:
        """Connections break; new ones end at once."""
        self._broken.set()

    def mend(self) -> None:
        """As before; what was connected has to connect anew."""
        self._broken = trio.Event()

    async def carry(self, near: trio.SocketStream) -> None:
        """One connection."""
        broken = self._broken
        async with near:
            if broken.is_set():
                return
            with suppress(*_GONE):
                async with await trio.open_tcp_stream("127.0.0.1", self._target) as far, trio.open_nursery() as both:
                    both.start_soon(_copy, near, far, both.cancel_scope)
                    both.start_soon(_copy, far, near, both.cancel_scope)
                    await broken.wait()
                    both.cancel_scope.cancel("the proxy is cut")


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    with suppress(*_GONE):
        while data := await source.receive_some():
            await sink.send_all(data)
    both.cancel("one end has gone")


@asynccontextmanager
async def tcp_proxy(port: int) -> AsyncIterator[TcpProxy]:
    """To the Redis on a port of loopback."""
    made = TcpProxy(port)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made.port = listeners[0].socket.getsockname()[1]
        made.url = f"redis://127.0.0.1:{made.port}/0"
        await nursery.start(trio.serve_listeners, made.carry, listeners)
        yield made
        nursery.cancel_scope.cancel("the test is over")
