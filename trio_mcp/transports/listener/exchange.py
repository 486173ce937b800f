"""One request and its response: as an ASGI app sees them, and as the `Carrier` of an endpoint that is called without ASGI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import trio

from trio_mcp.dispatch.dispatcher import KeptScope
from trio_mcp.streams.account import Account
from trio_mcp.streams.transfers import Transfer
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, MOVE_EXTENSION, Message, Scope
from trio_mcp.transports.listener.body import Body, begin_body
from trio_mcp.transports.listener.departure import Departure
from trio_mcp.transports.listener.head import Head, Refusal
from trio_mcp.transports.listener.limits import Limits
from trio_mcp.transports.listener.response import CONTINUE, Response, ResponseError
from trio_mcp.transports.listener.wire import Address, ClientDisconnected, ClientStalled, Wire

__all__ = ["Exchange"]

_ASGI = {"version": "3.0", "spec_version": "2.4"}

logger: logging.Logger = logging.getLogger(__name__)


class Exchange(msgspec.Struct, eq=False):
    """Reads the request's body as the app asks for it, and writes the response.

    A client that closes its sending half counts as disconnected, as with nginx and uvicorn, and the app is told at once. What the app
    sends after that is still written, until the kernel reports that the client is gone.
    """

    wire: Wire
    limits: Limits
    account: Account
    head: Head
    response: Response
    rest: bytes
    """What was read behind the request."""
    _body: Body
    _payload: bytes
    """What is read of the body and not delivered."""
    _closing: Callable[[], bool]
    _departure: Departure | None
    _continue_is_due: bool
    """Kept here, not in the head, which the next request of the connection may share."""
    kept: KeptScope | None
    """The scope that the connection keeps for calls; None for its first exchange."""
    gone: bool = False
    """The client has disconnected."""
    refusal: Refusal | None = None
    """Why the rest of the body was not read; the app was told of a disconnect."""
    on_progress: Callable[[], None] | None = None
    """Called whenever the client took a part of what did not go out at once."""
    upgraded: bool = False
    """It was answered with 101: the connection speaks another protocol now, and there is no response."""
    still_sending: bool = False
    """It was ended while its client may be sending: what still comes must be read before the connection is closed."""
    torn: bool = False
    """A write was cut short, such as by a deadline of the app. Nothing more may be written: it would be read as the rest of that."""
    _body_deadline: float | None = None
    _delivered: bool = False
    _callbacks: list[Callable[[], object]] = []
    _ended: trio.Event | None = None

    @classmethod
    def begin(
        cls,
        wire: Wire,
        limits: Limits,
        head: Head,
        data: bytes,
        closing: Callable[[], bool],
        account: Account,
        departure: Departure | None,
        kept: KeptScope | None,
    ) -> Exchange:
        """`data` was read behind the head. Raises Refusal for a body that is too large, or wrong from its first bytes on."""
        body, payload, rest = begin_body(head, data, limits.body_bytes)
        response = Response(head, head.keep_alive)
        due = head.expects_continue
        return cls(wire, limits, account, head, response, rest, body, payload, closing, departure, due, kept)

    @property
    def all_read(self) -> bool:
        """Whether the whole request has been read."""
        return self._body.complete

    @property
    def asks_head_only(self) -> bool:
        """Whether it is a HEAD request, the answer to which has no body."""
        return self.head.method == "HEAD"

    def scope(self) -> Scope:
        """The ASGI connection scope."""
        head = self.head
        raw_path, _, query = head.target.partition(b"?")
        extensions: dict[str, Any] = {
            DISCONNECT_EXTENSION: {"register": self.tell_when_client_leaves, "abort": self.abort}
        }
        if self.may_move:
            extensions[MOVE_EXTENSION] = self.move
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": head.http_version,
            "server": self.wire.server,
            "client": self.wire.client,
            "scheme": "http",
            "method": head.method,
            "root_path": "",
            "path": head.path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers.copy(),
            "extensions": extensions,
        }

    @property
    def client(self) -> Address | None:
        """The address of the client."""
        return self.wire.client

    @property
    def may_move(self) -> bool:
        """Whether the connection can go to another process of the node, with this request."""
        return self._departure is not None and not self._departure.arriving

    def move(self, content: bytes, to: str) -> bool:
        """See MOVE_EXTENSION. `content` is the body of the request."""
        departure = self._departure
        if departure is None or self.gone or self.torn or self.response.begun or not self._body.complete:
            return False
        return departure.go(self.head, content, self.rest, to)

    def abort(self) -> bool:
        """Called by an app that cannot complete the response it has begun, and has logged why: the connection is reset. True."""
        self.torn = True
        return True

    def tell_when_client_leaves(self, callback: Callable[[], object]) -> bool:
        """Call `callback` once when the client disconnects, at once if it has. It must not block or raise. True: that is possible."""
        if self.gone:
            callback()
        else:
            self._callbacks.append(callback)
        return True

    def disconnect(self) -> None:
        """The client has disconnected: call the callbacks, end `receive`."""
        self.gone = True
        self._end()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _end(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def whole_body(self) -> bytes | None:
        """The body, where all of it has come with the head; None: `receive` brings it."""
        self._delivered = self._body.complete
        return self._payload if self._delivered else None

    async def receive(self) -> Message:
        """ASGI `receive`: the body in pieces, then `http.disconnect` when the client went or the response is complete."""
        if self._delivered:
            return await self.disconnected()
        payload, self._payload = self._payload, b""
        while not payload and not self._body.complete:
            if self.gone or not await self._read_body():
                return {"type": "http.disconnect"}
            payload, self._payload = self._payload, b""
        self._delivered = self._body.complete
        return {"type": "http.request", "body": payload, "more_body": not self._delivered}

    async def disconnected(self) -> Message:
        """Wait until the client is gone, or the response is complete."""
        while not self.gone and not self.response.complete:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _read_body(self) -> bool:
        """Read once; False when nothing more will come."""
        try:
            data = await self._receive_body()
            if data:
                self._payload, self.rest = self._body.take(data)
                return True
        except Refusal as refusal:
            self.refusal = refusal
        except ClientDisconnected as error:
            logger.debug("%s: %s", self.wire.client, error)
        self.disconnect()
        return False

    async def _receive_body(self) -> bytes:
        if self._continue_is_due:
            self._continue_is_due = False
            # Once the response has begun, it would be read as part of that.
            if not self.response.begun:
                await self.write(CONTINUE)
        if self._body_deadline is None:
            self._body_deadline = trio.current_time() + self.limits.body_seconds
        with trio.move_on_at(self._body_deadline):
            # Not `receive_now`, which never blocks: a sender without pauses would pass the deadline, and let no other task run.
            return await self.wire.receive()
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request body took too long")

    async def send(self, message: Message) -> None:
        """ASGI `send`; raises ClientDisconnected when the client is gone, ResponseError when the app breaks the rules."""
        match message["type"]:
            case "http.response.body":
                await self._send_body(message.get("body", b""), message.get("more_body", False))
            case "http.response.start":
                self.response.start(message["status"], message.get("headers", ()))
            case other:
                raise ResponseError(f"{other!r} cannot be sent here")

    async def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response, in one write; raises what `send` raises. `headers` are those of `Response.whole`."""
        self._settle_keep_alive()
        await self.write(self.response.whole(status, headers, body))
        self._end()

    def _settle_keep_alive(self) -> None:
        response = self.response
        # The rest of an unread body would be read as the next request.
        response.keep_alive = response.keep_alive and self._body.complete and not self._closing()

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self.response.begun:
            self._settle_keep_alive()
        await self.write(self.response.body(data, more))
        if more:
            # An app that streams to a fast reader would otherwise let no other task run.
            await trio.lowlevel.checkpoint()
        else:
            self._end()

    async def write(self, data: bytes) -> None:
        """Write `data` as it is, within the write deadline; raises ClientDisconnected."""
        if self.torn:
            raise ClientDisconnected("an earlier write was cut short")
        try:
            sent = self.wire.send_now(data) if data else 0
            if sent < len(data):
                self.torn = True
                await self._write_slowly(data, sent)
                self.torn = False
        except ClientDisconnected as error:
            self._report(error)
            self.disconnect()
            raise

    async def _write_slowly(self, data: bytes, sent: int) -> None:
        """Write what the kernel did not take at once; until the client takes it, it counts for the node, which may cut it off."""
        with self.account.transfer(len(data)) as transfer:
            await self.wire.send_all(memoryview(data)[sent:], self._moved(transfer))
        if transfer.cut:
            raise ClientStalled("the client takes next to nothing, and memory is short")

    def _moved(self, transfer: Transfer) -> Callable[[int], None]:
        told = self.on_progress
        if told is None:
            return transfer.progress

        def moved(count: int) -> None:
            transfer.progress(count)
            told()

        return moved

    def _report(self, error: ClientDisconnected) -> None:
        level = logging.INFO if isinstance(error, ClientStalled) else logging.DEBUG
        logger.log(level, "%s: %s", self.wire.client, error)

    def finish(self) -> None:
        """The app has returned; raises Refusal or ResponseError unless the response is complete."""
        # Callbacks refer to the app's side of the exchange, and that to this: without a clear, each exchange would be a cycle.
        self._callbacks.clear()
        if self.refusal is not None and not self.response.begun:
            raise self.refusal
        elsewhere = self.upgraded or (self._departure is not None and self._departure.gone)
        if not self.response.complete and not self.gone and not self.torn and not elsewhere:
            raise ResponseError("The app returned without completing its response")
