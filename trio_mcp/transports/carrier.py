"""The port between what carries an exchange and the endpoint that answers it.

our listener ──▶ DirectApp.answer ──┐
                                    ├──▶ endpoint ──▶ Carrier.reply, or Carrier.send
any ASGI server ──▶ AsgiCarrier ────┘

Everything but the endpoint is reached over ASGI, from our own listener as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from trio_mcp.dispatch.dispatcher import KeptScope
from trio_mcp.transports.asgi import Receive, Send
from trio_mcp.transports.request_head import RequestHead

__all__ = ["Carrier", "DirectApp"]


class Carrier(Protocol):
    """Brings one request, and takes its response. Every write has a deadline."""

    @property
    def client(self) -> tuple[str, int | None] | None:
        """The address of whoever connected; None where it has none."""

    @property
    def may_move(self) -> bool:
        """Whether the connection can go to another process of the node, with this request."""

    @property
    def kept(self) -> KeptScope | None:
        """The scope that the task which brings the requests keeps for calls that run in it; None where it keeps none."""

    @property
    def receive(self) -> Receive:
        """ASGI's `receive`."""

    @property
    def send(self) -> Send:
        """ASGI's `send`; raises OSError, trio.BrokenResourceError or trio.TooSlowError when the client is gone."""

    def whole_body(self) -> bytes | None:
        """The body, where all of it has come with the head; None: `receive` brings it. To be called once, before `receive`."""

    async def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response. Its Content-Length is that of `body`, and not among `headers`. Raises what `send` raises."""

    def tell_when_client_leaves(self, callback: Callable[[], object]) -> bool:
        """Call `callback` once when the client disconnects, at once if it has. False where only `receive` tells."""

    def abort(self) -> bool:
        """Break off a response that has begun; False where only an exception can."""

    def move(self, content: bytes, to: str) -> bool:
        """Have the process at `to` answer the request, whose body is `content`, and serve the connection from now on.

        False when it does not.
        """


class DirectApp(Protocol):
    """An app whose requests our listener hands over without ASGI."""

    def read_head(
        self, method: str, path: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]
    ) -> RequestHead | None:
        """What the app knows of requests with this head. None: they come over ASGI.

        `path` is decoded; `target` is the path as it was sent, with its query. `fields` are kept, and must not change.
        """

    async def answer(self, head: RequestHead, carrier: Carrier) -> None:
        """Answer a request. Those with equal heads come with the same `head`."""
