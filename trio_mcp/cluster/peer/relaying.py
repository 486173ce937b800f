"""One request's way to its owner and the response's way back, on one connection.

request ──▶ owner ──▶ head ─┬─ 421 of a peer ────────────▶ Misdirected
                            ├─ a body that is short ─────▶ client, as a whole
                            └─ any other ────────────────▶ client, piece by piece as it comes

An owner that is silent for too long is asked for `/livez` on another connection. If that fails, the wait for its response ends.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import trio

from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.headers import Fields
from trio_mcp.cluster.peer.outcomes import (
    Broken,
    Misdirected,
    Outcome,
    OwnerLost,
    Relayed,
    Unanswered,
    last_event,
    read_misdirection,
)
from trio_mcp.cluster.peer.pool import Connection
from trio_mcp.cluster.peer.response import (
    WHOLE_BODY_BYTES,
    Response,
    ResponseHead,
    WholeResponse,
    read_whole,
    whole_fields,
)
from trio_mcp.cluster.peer.streams import OpenStreams, RelayedStream
from trio_mcp.defaults import KEEP_ALIVE, WRITE_TIMEOUT
from trio_mcp.observability.logs import event
from trio_mcp.protocol.sse import retry
from trio_mcp.protocol.versions import V2025_11_25
from trio_mcp.transports.http.event_stream import jittered
from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["Cut", "OwnerWire", "Patience", "RelayedRequest"]

COME_BACK_MS = 1_000
"""The `retry` of a stream that this node ends, in ms, varied by a quarter: when its client comes back."""

MISDIRECTION_BYTES = 64 * 1024
"""The largest body of a 421 that is read; usual ones have a few hundred bytes."""

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")


@dataclass(frozen=True, slots=True)
class Cut:
    """A response had begun and cannot be completed."""

    status: int
    reason: str


class RelayedRequest(msgspec.Struct, eq=False):
    """One relayed request. Its caller owns `wire` and `exchange`, and closes them."""

    _exchange: HttpExchange
    _wire: OwnerWire
    _patience: Patience
    _relayed_by: tuple[bytes, bytes]
    """A header for the client."""
    _streams: OpenStreams
    """Where an event stream is listed as long as it is relayed."""
    usable: bool = False
    """The connection may serve another request."""

    async def run(self, rest: memoryview) -> Outcome | Cut:
        """Send `rest` of the request and pass the response on. Raises what the exchange's `send` raises."""
        try:
            if rest:
                await self._wire.send(rest)
            data = await self._first_bytes()
            whole = read_whole(self._exchange.method, data)
            if whole is not None:
                self.usable = True
                return await self._pass_on_whole(whole)
            response = Response(self._exchange.method, self._wire.receive)
            response.take(data)
            head = response.head() or await self._rest_of_head(response)
            if head.misdirected is not None:
                return await self._misdirected(response, head.misdirected)
            body, ended = response.body()
            if head.is_short and not ended:
                body, ended = body + await response.whole(WHOLE_BODY_BYTES), True
        except OwnerLost as lost:
            return lost.outcome
        if ended and not head.is_event_stream:
            self._settle(response)
            return await self._pass_on_whole(WholeResponse(head.status, whole_fields(head.fields), body))
        return await self._pass_on(response, head, body, ended)

    async def _first_bytes(self) -> bytes:
        wire, waiting = self._wire, self._streams.waiting
        waiting[wire] = wire.give_up
        try:
            return await wire.receive()
        finally:
            del waiting[wire]

    async def _rest_of_head(self, response: Response) -> ResponseHead:
        """A head that has begun must be complete within `head` seconds, with all informational ones before it."""
        with trio.move_on_after(self._patience.head):
            return await response.wait_head()
        raise OwnerLost(Broken(), f"the head of the response took more than {self._patience.head:g} s")

    async def _misdirected(self, response: Response, process: bytes) -> Misdirected:
        body = await response.whole(MISDIRECTION_BYTES)
        self._settle(response)
        return read_misdirection(process, body)

    async def _pass_on_whole(self, whole: WholeResponse) -> Relayed:
        # Responses that leave in a row, after all tasks that were ready have run, cost the kernel a third less.
        await trio.lowlevel.checkpoint()
        self._exchange.completing = True
        await self._exchange.carrier.reply(whole.status, (*whole.fields, self._relayed_by), whole.body)
        return Relayed(whole.status)

    async def _pass_on(self, response: Response, head: ResponseHead, body: bytes, ended: bool) -> Relayed | Cut:
        await self._begin(head.status, head.fields)
        self._wire.silence = self._patience.body
        try:
            if head.is_event_stream:
                body = await self._pass_events_on(response, body, ended)
            else:
                while not ended:
                    await self._write(body, more=True)
                    body, ended = await response.more()
        except OwnerLost as lost:
            event(logger, logging.INFO, "owner lost within its response", status=head.status, reason=str(lost))
            return Cut(head.status, str(lost))
        self._settle(response)
        await self._write(body, more=False)
        return Relayed(head.status)

    async def _pass_events_on(self, response: Response, body: bytes, ended: bool) -> bytes:
        """Pass events on until the stream ends, or is told to; the bytes to write last. Raises OwnerLost for a stream cut within an event."""
        # Clients up to 2025-06-18 get event ids, but resume only their GET.
        heeds_ids = (self._exchange.header(b"mcp-protocol-version") or "") >= V2025_11_25
        with self._streams.open(resumable=self._exchange.method == "GET", heeds_ids=heeds_ids) as stream:
            try:
                while not ended:
                    await self._write(body, more=True)
                    stream.passed(body)
                    found = await stream.wait(response.more)
                    if found is None:
                        return self._end(stream, OwnerLost(Broken(), "this node stops"))
                    body, ended = found
            except OwnerLost as lost:
                # Clients resume a stream that ends; some resume one that breaks only once.
                words = self._end(stream, lost)
                event(logger, logging.INFO, "owner lost within its response", status=200, reason=str(lost))
                return words
        return body

    def _end(self, stream: RelayedStream, why: OwnerLost) -> bytes:
        """The last bytes of a stream that its owner did not end; raises `why` when it is cut within an event and cannot be resumed."""
        if stream.resumable:
            # Within an event nothing can be added; the client drops an incomplete event and gets it again by replay.
            return retry(jittered(COME_BACK_MS)) if stream.between_events else b""
        if stream.between_events:
            return last_event(self._exchange.content)
        raise why

    def _settle(self, response: Response) -> None:
        self.usable = response.leaves_connection_usable

    async def _begin(self, status: int, fields: Fields) -> None:
        head = {"type": "http.response.start", "status": status, "headers": [*fields, self._relayed_by]}
        await self._exchange.carrier.send(head)

    async def _write(self, data: bytes, *, more: bool) -> None:
        message = {"type": "http.response.body", "body": data, "more_body": more}
        self._exchange.completing = not more
        await self._exchange.carrier.send(message)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a relayed request waits for its owner, in seconds."""

    head: float = 5.0
    """How long an owner may be silent before its response; then it is asked whether it lives. The slow call of a client that accepts
    only JSON has no early head."""
    body: float = 2 * KEEP_ALIVE + 5
    """How long it may be silent within a response. Streams send a comment every `--keepalive`: twice that, and 5 s for the network."""
    write_timeout: float = WRITE_TIMEOUT
    """How long the owner may take no byte; then its connection is lost."""


class OwnerWire(msgspec.Struct, eq=False):
    """Sends and receives on a connection to `owner`. `alive` asks on another connection whether that lives.

    While it waits it is among `waiting`, by the time when it began to. Who owns that calls `look` now and then: a timer for each wait
    would be a tenth of a relayed call.
    """

    _connection: Connection
    _write_timeout: float
    silence: float
    """Seconds of silence after which the owner is asked whether it lives."""
    _owner: Owner
    _alive: Callable[[Owner], Awaitable[bool]]
    _waiting: dict[OwnerWire, float]
    _given_up: bool = False

    async def send(self, data: memoryview) -> None:
        """Send everything; raises OwnerLost when the owner takes no byte for too long, or is dead."""
        # An owner that closed the connection may have answered first, with 413 for example: go on to read that.
        with suppress(OSError):
            while data:
                with trio.move_on_after(self._write_timeout) as deadline:
                    await self._watched(self._connection.writable)
                if deadline.cancelled_caught:
                    raise OwnerLost(Broken(), f"the owner took no byte for {self._write_timeout:g} s")
                data = data[self._connection.send_now(data) :]

    async def receive(self) -> bytes:
        """Wait for bytes; b"" when the owner has ended. Raises OwnerLost when it is silent for too long and a probe of it fails."""
        connection = self._connection
        while True:
            await self._watched(connection.readable)
            try:
                data = connection.receive_now()
            except OSError as error:
                raise OwnerLost(Broken(), f"receiving failed: {error}") from None
            if data is not None:
                return data

    def look(self, since: float) -> None:
        """It has been waiting from `since` on (trio clock): if that is too long, ask whether the owner lives."""
        if trio.current_time() - since >= self.silence:
            self._connection.wake()

    def give_up(self) -> None:
        """This node stops: end the wait for the response, with OwnerLost."""
        self._given_up = True
        self._connection.wake()

    async def _watched(self, ready: Callable[[], Awaitable[None]]) -> None:
        while not self._given_up:
            self._waiting[self] = trio.current_time()
            try:
                return await ready()
            except trio.ClosedResourceError:
                # It was woken; nothing is closed.
                pass
            finally:
                del self._waiting[self]
            # Bytes that arrived while we asked show more than the answer.
            if not self._given_up and not await self._alive(self._owner) and self._connection.is_quiet():
                raise OwnerLost(Unanswered(), f"the owner was silent for {self.silence:g} s and a probe of it failed")
        raise OwnerLost(Broken(), "this node stops")
