"""Writes one stream of server-sent events, until the log ends, the client leaves, or a newer reader takes its place.

Reader ──batch──▶ encode ──▶ send        a comment every 15 s when nothing else moves
                             │
                             └─ no progress within the write deadline: the connection goes, the session stays
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from trio_mcp.defaults import KEEP_ALIVE, RETRY_INTERVAL_MS, SSE_AFTER, STREAM_DELAY
from trio_mcp.protocol.sse import COMMENT, event, event_pieces, priming, retry
from trio_mcp.streams.backlog import Entry
from trio_mcp.streams.event_log import Reader
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import CHUNK_BYTES
from trio_mcp.transports.request_head import HeaderList

__all__ = ["EventStream", "Pace", "StreamHead"]


_HEAD: HeaderList = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times of responses, in seconds; `retry` in milliseconds."""

    sse_after: float = SSE_AFTER
    """How long the head of a response is held back, in case the reply comes and can go out as JSON."""
    stream_delay: float = STREAM_DELAY
    """A stream, or a large reply, begins no sooner than this after the request's last byte, unless it is complete before.

    Go's HTTP/1 reverse proxy (Traefik, Caddy) breaks off a response whose head comes while it still sends the request
    (golang/go#40747). The origin cannot see that, so this only makes it rare; `deploy/` has the remedy.
    """
    keep_alive: float = KEEP_ALIVE
    """Between the comments on a quiet stream."""
    retry: int = RETRY_INTERVAL_MS
    """After how long a client is to come back when its stream was ended (`retry:`), in milliseconds."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """How a stream begins. `id_prefix`: of its events' ids, None for events without. `mark`: of its priming event, if it has one."""

    id_prefix: str | None = None
    mark: str | None = None


class EventStream:
    """Writes what one reader reads. `headers` are added to those of every stream.

    At `ends_at` (trio clock) the reader is closed: the response ends, and the log stays for the client that comes back.
    """

    __slots__ = ("_ends_at", "_exchange", "_head", "_headers", "_opening", "_pace", "_reader")

    def __init__(
        self,
        exchange: HttpExchange,
        reader: Reader,
        head: StreamHead,
        pace: Pace,
        headers: HeaderList,
        *,
        ends_at: float = math.inf,
    ) -> None:
        self._exchange = exchange
        self._reader = reader
        self._head = head
        self._pace = pace
        self._headers = headers
        self._ends_at = ends_at
        self._opening = b""

    async def run(self) -> None:
        """Write until there will be no more for this reader, and end the response."""
        await self._open()
        # The first comment comes after a random part of the interval, so that streams do not all write at the same time.
        silence = self._pace.keep_alive * random.uniform(0.3, 1.0)
        while batch := await self._next(silence):
            if await self._write_batch(batch):
                return
            silence = self._pace.keep_alive
        farewell = b""
        if self._reader.closed and self._head.id_prefix is not None:
            farewell = retry(jittered(self._pace.retry))
        await self._write(farewell, more=False)

    async def _open(self) -> None:
        await self._reader.log.ended_by(self._exchange.body_ended + self._pace.stream_delay)
        start = {"type": "http.response.start", "status": 200, "headers": [*_HEAD, *self._headers]}
        await self._exchange.carrier.send(start)
        self._opening = _opening(self._reader, self._head, self._pace)
        if self._reader.waits:
            await self._write(b"")

    async def _next(self, silence: float) -> list[Entry]:
        if trio.current_time() >= self._ends_at:
            self._reader.close()
        if not self._reader.waits:
            return await self._reader.batch()
        while True:
            with trio.move_on_at(min(trio.current_time() + silence, self._ends_at)):
                return await self._reader.batch()
            if trio.current_time() >= self._ends_at:
                self._reader.close()
                return []
            await self._write(COMMENT)
            silence = self._pace.keep_alive

    async def _write_batch(self, batch: list[Entry]) -> bool:
        """Whether it was the last one, so that the response is complete."""
        last = False
        for data, complete in _frames(batch, self._head.id_prefix):
            last = complete is batch[-1] and self._reader.ends_with(complete)
            await self._write(data, more=not last)
            if complete is None:
                self._reader.moved()
            else:
                self._reader.wrote(complete)
        return last

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        message = {"type": "http.response.body", "body": self._opening + data, "more_body": more}
        self._exchange.completing = not more
        await self._exchange.carrier.send(message)
        self._opening = b""


def _frames(batch: list[Entry], prefix: str | None) -> Iterator[tuple[bytes, Entry | None]]:
    """The pieces to write, and with each the entry that it completes: short entries share a piece, long ones are split."""
    together: list[bytes] = []
    size = 0
    for entry in batch:
        event_id = None if prefix is None else f"{prefix}{entry.n}"
        for piece in (
            (event(entry.data, event_id),)
            if len(entry.data) <= CHUNK_BYTES
            else event_pieces(entry.data, event_id, CHUNK_BYTES)
        ):
            if size >= CHUNK_BYTES:
                yield b"".join(together), None
                together, size = [], 0
            together.append(piece)
            size += len(piece)
        if size >= CHUNK_BYTES or entry is batch[-1]:
            yield b"".join(together), entry
            together, size = [], 0


def jittered(milliseconds: int) -> int:
    """±25 %, so that clients which were disconnected together do not come back together."""
    return int(milliseconds * random.uniform(0.75, 1.25))


def _opening(reader: Reader, head: StreamHead, pace: Pace) -> bytes:
    if head.mark is not None:
        return COMMENT + priming(f"{head.id_prefix}{reader.cursor}{head.mark}", pace.retry)
    return COMMENT
