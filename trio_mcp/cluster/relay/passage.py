"""One request's way to its owner and the response's way back, on one connection.

request ──▶ owner ──▶ head ─┬─ 421 of a peer ────────────▶ Misdirected
                            ├─ a body that is short ─────▶ client, as a whole
                            └─ any other ────────────────▶ client, piece by piece as it comes
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from trio_mcp.cluster.relay.answer import HELD_BACK_BYTES, AnswerHead
from trio_mcp.cluster.relay.familiar import FamiliarHeads
from trio_mcp.cluster.relay.forwarding import Fields
from trio_mcp.cluster.relay.last_words import last_event
from trio_mcp.cluster.relay.misdirection import read_misdirection
from trio_mcp.cluster.relay.open_streams import OpenStreams, RelayedStream
from trio_mcp.cluster.relay.outcomes import Broken, Misdirected, Outcome, OwnerLost, Relayed
from trio_mcp.cluster.relay.owner_wire import OwnerWire, Patience
from trio_mcp.cluster.relay.reply import Reply
from trio_mcp.observability.logs import event
from trio_mcp.protocol.sse import retry
from trio_mcp.protocol.versions import V2025_11_25
from trio_mcp.transports.http.event_stream import jittered
from trio_mcp.transports.http.request import HttpExchange

__all__ = ["Cut", "Passage"]

COME_BACK_MS = 1_000
"""When the client of a stream that this node must end may ask again, give or take a quarter."""

MISDIRECTION_BYTES = 64 * 1024
"""More of a 421's body is not read; it is worth a few hundred."""

logger = logging.getLogger("trio_mcp.cluster")


@dataclass(frozen=True, slots=True)
class Cut:
    """A response had begun and cannot be completed."""

    status: int
    reason: str


class Passage:
    """Owns nothing: wire and exchange are its caller's."""

    __slots__ = ("_exchange", "_familiar", "_patience", "_relayed_by", "_streams", "_wire", "usable")

    def __init__(
        self,
        exchange: HttpExchange,
        wire: OwnerWire,
        patience: Patience,
        familiar: FamiliarHeads,
        relayed_by: tuple[bytes, bytes],
        streams: OpenStreams,
    ) -> None:
        """`relayed_by` is the header that tells the client; event streams are listed among `streams`."""
        self._exchange = exchange
        self._wire = wire
        self._patience = patience
        self._familiar = familiar
        self._relayed_by = relayed_by
        self._streams = streams
        self.usable = False
        """The connection may serve another request."""

    async def run(self, rest: memoryview) -> Outcome | Cut:
        """Send what of the request is not out yet, and pass the response on. Raises what the exchange's `send` raises."""
        try:
            if rest:
                await self._wire.send(rest)
            self._streams.waiting.add(self._wire)
            try:
                data = await self._wire.receive()
            finally:
                self._streams.waiting.discard(self._wire)
            whole = self._familiar.read(data)
            if whole is None:
                return await self._read(data)
        except OwnerLost as lost:
            return lost.outcome
        self.usable = True
        # Answers that leave in a row, when all who were ready have had their turn, cost the kernel a third less.
        await trio.lowlevel.checkpoint()
        await self._begin(whole.status, whole.fields)
        await self._write(whole.body, more=False)
        return Relayed(whole.status)

    async def _read(self, data: bytes) -> Outcome | Cut:
        reply = Reply(self._exchange.method, self._wire.receive, data)
        head = await self._rest_of_head(reply)
        if head.misdirected is not None:
            return await self._misdirected(reply, head.misdirected)
        body, ended = reply.here()
        if reply.leaves_connection_usable:
            self._familiar.learn(data, head)
        elif head.is_short and not ended:
            # Joined with what is here below.
            body, ended = body + await reply.whole(HELD_BACK_BYTES), True
        return await self._pass_on(reply, head, body, ended)

    async def _rest_of_head(self, reply: Reply) -> AnswerHead:
        """What has begun is soon complete, whatever comes before it and however slowly."""
        with trio.move_on_after(self._patience.head):
            return await reply.head()
        raise OwnerLost(Broken(), f"the head of the response took more than {self._patience.head:g} s")

    async def _misdirected(self, reply: Reply, process: bytes) -> Misdirected:
        body = await reply.whole(MISDIRECTION_BYTES)
        self._settle(reply)
        return read_misdirection(process, body)

    async def _pass_on(self, reply: Reply, head: AnswerHead, body: bytes, ended: bool) -> Relayed | Cut:
        await self._begin(head.status, head.fields)
        self._wire.silence = self._patience.body
        try:
            if head.is_event_stream:
                body = await self._pass_events_on(reply, body, ended)
            else:
                while not ended:
                    await self._write(body, more=True)
                    body, ended = await reply.more()
        except OwnerLost as lost:
            event(logger, logging.INFO, "owner lost within its response", status=head.status, reason=str(lost))
            return Cut(head.status, str(lost))
        self._settle(reply)
        await self._write(body, more=False)
        return Relayed(head.status)

    async def _pass_events_on(self, reply: Reply, body: bytes, ended: bool) -> bytes:
        """Until the owner ends the stream, or this node is to; what is left to write last. Raises OwnerLost within an event."""
        # Clients up to 2025-06-18 are shown ids too, and resume nothing but their GET.
        heeds_ids = (self._exchange.header(b"mcp-protocol-version") or "") >= V2025_11_25
        with self._streams.open(resumable=self._exchange.method == "GET", heeds_ids=heeds_ids) as stream:
            try:
                while not ended:
                    await self._write(body, more=True)
                    stream.passed(body)
                    found = await stream.wait(reply.more)
                    if found is None:
                        return self._end(stream, OwnerLost(Broken(), "this node stops"))
                    body, ended = found
            except OwnerLost as lost:
                # A stream that ends is resumed. One that breaks is, by some clients, but once.
                words = self._end(stream, lost)
                event(logger, logging.INFO, "owner lost within its response", status=200, reason=str(lost))
                return words
        return body

    def _end(self, stream: RelayedStream, why: OwnerLost) -> bytes:
        """What a stream is ended with that its owner does not end; raises `why` where only a break is honest."""
        if stream.resumable:
            # Within an event nothing can be said; what is cut there was not heard, and is replayed.
            return retry(jittered(COME_BACK_MS)) if stream.between_events else b""
        if stream.between_events:
            return last_event(self._exchange.content)
        raise why

    def _settle(self, reply: Reply) -> None:
        self.usable = reply.leaves_connection_usable

    async def _begin(self, status: int, fields: Fields) -> None:
        head = {"type": "http.response.start", "status": status, "headers": [*fields, self._relayed_by]}
        await self._exchange.send(head)

    async def _write(self, data: bytes, *, more: bool) -> None:
        message = {"type": "http.response.body", "body": data, "more_body": more}
        self._exchange.completing = not more
        if self._exchange.writes_have_deadlines:
            await self._exchange.send(message)
        else:
            with trio.fail_after(self._patience.write):
                await self._exchange.send(message)
