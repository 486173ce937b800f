"""One connection: its exchanges, one after the other, in one task; the boundary for their errors.

wire ──▶ HeadReader ──▶ Exchange ──▶ app
  ▲                        │
  └── refusal / response ◀─┘
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import trio

from trio_mcp.dispatch.dispatcher import KeptScope
from trio_mcp.streams.account import Account
from trio_mcp.transports.asgi import ASGIApp
from trio_mcp.transports.carrier import DirectApp
from trio_mcp.transports.listener.departure import Departure
from trio_mcp.transports.listener.eviction import IdleConnections, Lingering
from trio_mcp.transports.listener.exchange import Exchange
from trio_mcp.transports.listener.head import Head, HeadReader, Refusal
from trio_mcp.transports.listener.limits import Limits
from trio_mcp.transports.listener.moving import Moved
from trio_mcp.transports.listener.parking import Parking
from trio_mcp.transports.listener.response import refusal
from trio_mcp.transports.listener.wire import ClientDisconnected, SocketWire, Wire
from trio_mcp.transports.request_head import RequestHead

__all__ = ["Connection", "Shared"]

LINGER_QUIET_SECONDS = 2.0
"""A client that has sent nothing for this long has read the answer, or will not."""
LINGER_BYTES = 64 * 1024 * 1024
"""What is read and discarded at most while a connection lingers."""
CLOSE_SECONDS = 1.0
"""For a stream to close in order (TLS); a socket closes at once."""

_WRONG: dict[int, str] = {
    408: "slow",
    413: "body",
    417: "expectation",
    426: "websocket_version",
    431: "head",
    500: "app_failed",
    501: "not_implemented",
    503: "connections",
    505: "http_version",
}
"""By status of an answer that is the listener's own: the reason it is counted under."""

REMEMBERED_HEAD_BYTES = 2 * 1024
"""A head longer than that is not remembered: it would be kept as long as its connection, and most clients send shorter ones."""

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Shared:
    """What all connections of one server share."""

    app: ASGIApp
    direct: DirectApp | None
    """The same app, for requests that it takes without ASGI; None where there are none."""
    limits: Limits
    idle: IdleConnections
    lingering: Lingering
    refused: Callable[[int, str], None]
    """Called with the status and the reason, one word, of each answer that is the listener's own."""
    websockets: Callable[[ASGIApp, Exchange], Awaitable[None]] | None = None
    """Serves a request that is a WebSocket handshake; None where they are served as the GET that they are."""
    account: Account = field(default_factory=Account)
    parking: Parking | None = None
    """For connections that go to other processes of the node, and come from there; None where there are none."""
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when the server stops: a connection ends with the response to its present request."""


class Connection:
    """Serves requests from `wire` until either side ends it. With `full` it is one too many, and is only answered 503.

    `moved` is as it came from the process that has served the connection before, and goes on only after its first request. To be made in
    the task that runs it.
    """

    __slots__ = (
        "_context",
        "_data",
        "_departure",
        "_dismissed",
        "_exchange",
        "_full",
        "_gone",
        "_kept",
        "_last_head",
        "_shared",
        "_task",
        "_wire",
    )

    def __init__(self, shared: Shared, wire: Wire, *, full: bool = False, moved: Moved | None = None) -> None:
        self._shared = shared
        self._wire = wire
        self._data = b"" if moved is None else moved.first
        self._departure: Departure | None = None
        parking = shared.parking
        if parking is not None and isinstance(wire, SocketWire) and parking.mover.takes_from(wire.server):
            self._departure = Departure(parking, wire, moved)
        self._exchange: Exchange | None = None
        self._last_head: Head | None = None
        self._full = full
        self._gone = False
        self._kept: KeptScope | None = None
        self._dismissed = False
        self._task = trio.lowlevel.current_task()
        # A copy, for the first request of one that has moved runs in the task's own.
        self._context = self._task.context.copy()

    async def run(self) -> None:
        """Serve until the connection is closed. Errors of the client and of the app are handled here and do not leave it."""
        try:
            self._wire.on_hangup(self._hang_up)
            if self._full:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections")
            if await self._serve_one() or await self._is_back():
                # Most connections bring one call after the other: from the second on they share a scope.
                with KeptScope() as self._kept:
                    while await self._serve_one() or await self._is_back():
                        pass
            await self._end_after_answer()
        except ClientDisconnected as error:
            logger.debug("%s: %s", self._wire.client, error)
        except Refusal as error:
            await self._refuse(error)
        except Exception as error:
            await self._fail(error)
        except BaseExceptionGroup as group:
            cancelled, crash = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(crash, ExceptionGroup):
                raise
            # The app raised while it was cancelled, as when the server stops: the error is logged, the cancellation goes on.
            logger.error("%s: the app failed", self._wire.client, exc_info=crash)
            raise cancelled from None
        finally:
            self._shared.idle.discard(self)
            if self._departure is not None and self._departure.is_away:
                self._departure.close_here()
            else:
                if self._cut_short():
                    self._wire.abort()
                with trio.move_on_after(CLOSE_SECONDS, shield=True):
                    await self._wire.close()

    def dismiss(self) -> None:
        """End an idle connection; a request that has reached the kernel already is still answered."""
        self._dismissed = True
        if self._departure is not None:
            self._departure.stays = True
        self._wire.stop_reading()

    def leave(self) -> None:
        """Have an idle connection go to another process, if it can; a request that comes meanwhile goes along or is served."""
        self._wire.wake()

    def _hang_up(self) -> None:
        # The kernel reports our own `stop_reading` as a hang-up, too.
        if self._dismissed:
            return
        self._gone = True
        if self._departure is not None and self._departure.is_away:
            self._departure.release()
        elif self._exchange is not None:
            self._exchange.disconnect()

    @property
    def is_away(self) -> bool:
        """Whether it goes on in another process."""
        return self._departure is not None and self._departure.is_away

    async def _is_back(self) -> bool:
        """After an exchange that was not the usual one: whether the connection has been served by another process, and is here again."""
        departure = self._departure
        if departure is None or not departure.gone:
            return False
        self._exchange = None
        self._data = b""
        # What the requests before have set is not there for the next. It takes effect when this task runs next.
        self._task.context = self._context.copy()
        data = await departure.back()
        if data is None:
            return False
        self._data = data
        return True

    async def _serve_one(self) -> bool:
        """Serve one exchange; False when it was the last one, or no request came."""
        head = await self._next_head()
        if head is None:
            return False
        exchange = Exchange.begin(
            self._wire,
            self._shared.limits,
            head,
            self._data,
            self._shared.stopping.is_set,
            self._shared.account,
            self._departure,
            self._kept,
        )
        self._exchange = exchange
        if self._gone:
            exchange.disconnect()
        await self._answer(exchange, head)
        exchange.finish()
        if exchange.torn or not exchange.response.complete or not exchange.response.keep_alive:
            return False
        self._data = exchange.rest
        self._exchange = None
        if self._departure is not None:
            self._departure.arriving = False
        return True

    async def _answer(self, exchange: Exchange, head: Head) -> None:
        """Have the app answer: directly where it takes that, else over ASGI."""
        shared = self._shared
        if head.asks_for_websocket and shared.websockets is not None:
            await shared.websockets(shared.app, exchange)
        elif shared.direct is not None and (known := head.known or _known(head, shared.direct)) is not None:
            await shared.direct.answer(known, exchange)
        else:
            await shared.app(exchange.scope(), exchange.receive, exchange.send)

    async def _next_head(self) -> Head | None:
        departure = self._departure
        if departure is None or not departure.arriving:
            # A fresh copy of the context variables for each request; it takes effect when this task runs next.
            self._task.context = self._context.copy()
        if departure is not None and self._left(departure):
            return None
        data = self._data
        if not data:
            data = await self._wait_for_request()
        elif departure is None or not departure.arriving:
            await trio.lowlevel.checkpoint()
        if not data:
            return None
        head = None if self._last_head is None else self._last_head.again(data)
        if head is None or len(head.raw) > self._shared.limits.head_bytes:
            return None if departure is not None and departure.lead(data) else await self._read_head(data)
        self._data = data[len(head.raw) :]
        self._last_head = head
        return head

    async def _read_head(self, data: bytes) -> Head | None:
        reader = HeadReader(self._shared.limits.head_bytes)
        head = reader.feed(data)
        if head is None:
            head = await self._rest_of_head(reader)
        self._data = reader.rest
        # Most clients send the same head again on a kept connection, or one of another length: it need not be parsed again.
        self._last_head = head if head is not None and len(head.raw) <= REMEMBERED_HEAD_BYTES else None
        return head

    async def _wait_for_request(self) -> bytes:
        self._shared.idle.add(self)
        if self._shared.stopping.is_set():
            self.dismiss()
        try:
            data = await self._wire.receive()
        except trio.ClosedResourceError:
            # `leave` has ended the wait.
            data = b"" if self._departure is not None and self._left(self._departure) else await self._wire.receive()
        self._shared.idle.discard(self)
        return data

    def _left(self, departure: Departure) -> bool:
        """Whether the connection goes on in another process."""
        return departure.is_due and departure.leave(self._data)

    async def _rest_of_head(self, reader: HeadReader) -> Head | None:
        with trio.move_on_after(self._shared.limits.head_seconds):
            while data := await self._wire.receive():
                head = reader.feed(data)
                if head is not None:
                    return head
            return None
        if reader.started:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request head took too long")
        return None

    def _cut_short(self) -> bool:
        """Whether a response has begun and will not be completed: the close must not look like its end."""
        exchange = self._exchange
        return exchange is not None and (exchange.torn or (exchange.response.begun and not exchange.response.complete))

    async def _fail(self, error: Exception) -> None:
        """The app raised: answer 500, unless the client had left, or had sent a bad body, which is refused."""
        exchange = self._exchange
        if exchange is not None and exchange.refusal is not None:
            await self._refuse(exchange.refusal)
        elif exchange is not None and exchange.gone:
            logger.info("%s: the app ended with %r after its client had left", self._wire.client, error)
        else:
            logger.error("%s: the app failed", self._wire.client, exc_info=error)
            await self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error"))

    async def _refuse(self, error: Refusal) -> None:
        exchange = self._exchange
        if self.is_away or (exchange is not None and (exchange.response.begun or exchange.upgraded)):
            return
        logger.debug("%s: %d %s", self._wire.client, error.status, error.reason)
        self._shared.refused(error.status, _WRONG.get(error.status, "malformed"))
        try:
            await self._wire.send_all(refusal(error, head_only=exchange is not None and exchange.asks_head_only))
            await self._linger()
        except ClientDisconnected as gone:
            logger.debug("%s: %s", self._wire.client, gone)

    async def _end_after_answer(self) -> None:
        """Linger after the last answer if the client may still be sending, for then a close would destroy the answer.

        Also when the client has closed its sending half: it may still read.
        """
        exchange = self._exchange
        if exchange is None or exchange.torn or self.is_away:
            return
        if not exchange.all_read or exchange.still_sending or exchange.rest or self._wire.receive_now():
            await self._linger()

    async def _linger(self) -> None:
        """Send no more, and discard what comes, until the client closes or a bound is reached."""
        left = LINGER_BYTES
        with self._shared.lingering.linger():
            await self._wire.finish_sending()
            while left > 0:
                with trio.move_on_after(LINGER_QUIET_SECONDS) as quiet:
                    data = await self._wire.receive()
                if quiet.cancelled_caught or not data:
                    return
                left -= len(data)


def _known(head: Head, app: DirectApp) -> RequestHead | None:
    """What the app knows by the head, from now on kept with it; None where the request has to come over ASGI."""
    path, _, query = head.target.partition(b"?")
    # Without a question mark where there is no query, as ASGI has it: nodes sign the target, and must agree on it.
    head.known = app.read_head(head.method, head.path, head.target if query else path, head.headers)
    return head.known
