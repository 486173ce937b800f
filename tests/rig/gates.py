"""A gate before one node that only its peers go through: it passes connections on, holds what they carry, or refuses them."""

from __future__ import annotations

from contextlib import suppress

import trio

from tests.rig.nodes import Node

__all__ = ["Gate"]

_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Gate:
    """A proxy on the node's own port and the host of its advertised URL, which must be another than the node listens on."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open = trio.CancelScope()
        self._may_listen = _set()
        self._may_flow = _set()

    def refuse(self) -> None:
        """Connections break, and new ones are refused."""
        self._may_listen = trio.Event()
        self._open.cancel()

    def hold(self) -> None:
        """Connections are accepted and stay, and nothing comes through."""
        self._may_flow = trio.Event()

    def pass_on(self) -> None:
        """Accept connections again, and let through what was held."""
        self._may_listen.set()
        self._may_flow.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._may_listen.wait()
            with trio.CancelScope() as self._open:
                await trio.serve_tcp(self._carry, self._node.port, host=self._node.host)

    async def _carry(self, near: trio.SocketStream) -> None:
        with suppress(*_GONE):
            async with near:
                await self._may_flow.wait()
                async with await trio.open_tcp_stream("127.0.0.1", self._node.port) as far, trio.open_nursery() as both:
                    both.start_soon(self._copy, near, far, both.cancel_scope)
                    both.start_soon(self._copy, far, near, both.cancel_scope)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        with suppress(*_GONE):
            async for data in source:
                await self._may_flow.wait()
                await sink.send_all(data)
        both.cancel("one end has gone")


def _set() -> trio.Event:
    event = trio.Event()
    event.set()
    return event
