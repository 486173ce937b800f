"""Bytes out: one reply as JSON while that is possible, else server-sent events until the stream, its reader or we end.

Reader ──batch──▶ encode ──▶ send        a comment every 15 s when nothing else moves
                             │
                             └─ no progress within the write deadline: the connection goes, the session stays
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from trio_mcp.protocol.sse import COMMENT, event, priming, retry
from trio_mcp.streams.event_log import Answer, Entry, EventLog, Reader
from trio_mcp.transports.http.request import HttpExchange, Send
from trio_mcp.transports.http.responses import HeaderList, send_empty, send_json

__all__ = ["Pace", "StreamHead", "send_answer", "stream", "whole_answer"]

_CHUNK_BYTES = 64 * 1024
"""The write deadline is per chunk: a slow but living reader makes progress."""

_HEAD: HeaderList = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Timing of streams, in seconds; `retry` in milliseconds."""

    sse_after: float = 0.5
    """How long a reply may hold the head back in the hope of plain JSON."""
    keep_alive: float = 15.0
    """Below common proxy idle timeouts (30-60 s), so a quiet stream stays open."""
    write_timeout: float = 20.0
    retry: int = 1_000


@dataclass(frozen=True, slots=True)
class StreamHead:
    """How a stream opens: `id_prefix` of its events, None without ids; the mark of its priming event, where it has one."""

    id_prefix: str | None = None
    mark: str | None = None


async def whole_answer(log: EventLog) -> Answer:
    """The reply of a request whose client takes only JSON, however late."""
    while not log.ended:
        await log.changed()
    answer = log.answer()
    assert answer is not None, "a client that takes only JSON is told nothing before its reply"
    return answer


async def send_answer(send: Send, answer: Answer, headers: HeaderList) -> None:
    """The reply as plain JSON; nothing to say is 202."""
    if answer.body:
        await send_json(send, answer.status, answer.body, headers)
    else:
        await send_empty(send, 202, headers)


async def stream(exchange: HttpExchange, reader: Reader, head: StreamHead, pace: Pace, headers: HeaderList) -> None:
    """Write events until there are no more for this reader; ends the response cleanly."""
    await exchange.send({"type": "http.response.start", "status": 200, "headers": [*_HEAD, *headers]})
    opening = _opening(reader, head, pace)
    if reader.waits:
        await _write(exchange, opening, pace)
        opening = b""
    # Not all streams in one tick: the first silence is cut at a random point.
    silence = pace.keep_alive * random.uniform(0.3, 1.0)
    while batch := await _next(exchange, reader, silence, pace):
        if await _write_batch(exchange, reader, batch, head, pace, opening):
            return
        opening = b""
        silence = pace.keep_alive
    farewell = retry(jittered(pace.retry)) if reader.closed and head.id_prefix is not None else b""
    await _write(exchange, opening + farewell, pace, more=False)


def jittered(milliseconds: int) -> int:
    """±25 %: clients that leave together must not come back together."""
    return int(milliseconds * random.uniform(0.75, 1.25))


def _opening(reader: Reader, head: StreamHead, pace: Pace) -> bytes:
    if head.mark is not None:
        return COMMENT + priming(f"{head.id_prefix}{reader.cursor}{head.mark}", pace.retry)
    return COMMENT


async def _next(exchange: HttpExchange, reader: Reader, silence: float, pace: Pace) -> list[Entry]:
    if not reader.waits:
        return await reader.batch()
    while True:
        with trio.move_on_after(silence):
            return await reader.batch()
        await _write(exchange, COMMENT, pace)
        silence = pace.keep_alive


async def _write_batch(
    exchange: HttpExchange, reader: Reader, batch: list[Entry], head: StreamHead, pace: Pace, opening: bytes
) -> bool:
    """Write it behind `opening`; True when it was the last there will be, and the response is complete."""
    pending = [opening]
    size, last = 0, False
    for entry in batch:
        pending.append(event(entry.data, None if head.id_prefix is None else f"{head.id_prefix}{entry.n}"))
        size += len(pending[-1])
        last = entry is batch[-1] and reader.ends_with(entry)
        if size >= _CHUNK_BYTES or entry is batch[-1]:
            await _write(exchange, b"".join(pending), pace, more=not last)
            reader.wrote(entry)
            pending.clear()
            size = 0
    return last


async def _write(exchange: HttpExchange, data: bytes, pace: Pace, *, more: bool = True) -> None:
    message = {"type": "http.response.body", "body": data, "more_body": more}
    if exchange.writes_have_deadlines:
        return await exchange.send(message)
    # Raises TooSlowError: other servers have no deadline of their own.
    with trio.fail_after(pace.write_timeout):
        await exchange.send(message)
