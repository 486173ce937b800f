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
from trio_mcp.transports.http.request import Send
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


async def stream(send: Send, reader: Reader, head: StreamHead, pace: Pace, headers: HeaderList) -> None:
    """Write events until there are no more for this reader; ends the response cleanly."""
    await send({"type": "http.response.start", "status": 200, "headers": [*_HEAD, *headers]})
    await _write(send, _opening(reader, head, pace), pace)
    # Not all streams in one tick: the first silence is cut at a random point.
    silence = pace.keep_alive * random.uniform(0.3, 1.0)
    while batch := await _next(send, reader, silence, pace):
        await _write_batch(send, reader, batch, head, pace)
        silence = pace.keep_alive
    if reader.closed and head.id_prefix is not None:
        await _write(send, retry(jittered(pace.retry)), pace)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def jittered(milliseconds: int) -> int:
    """±25 %: clients that leave together must not come back together."""
    return int(milliseconds * random.uniform(0.75, 1.25))


def _opening(reader: Reader, head: StreamHead, pace: Pace) -> bytes:
    if head.mark is not None:
        return COMMENT + priming(f"{head.id_prefix}{reader.cursor}{head.mark}", pace.retry)
    return COMMENT


async def _next(send: Send, reader: Reader, silence: float, pace: Pace) -> list[Entry]:
    while True:
        with trio.move_on_after(silence):
            return await reader.batch()
        await _write(send, COMMENT, pace)
        silence = pace.keep_alive


async def _write_batch(send: Send, reader: Reader, batch: list[Entry], head: StreamHead, pace: Pace) -> None:
    pending: list[bytes] = []
    size = 0
    for entry in batch:
        pending.append(event(entry.data, None if head.id_prefix is None else f"{head.id_prefix}{entry.n}"))
        size += len(pending[-1])
        if size >= _CHUNK_BYTES or entry is batch[-1]:
            await _write(send, b"".join(pending), pace)
            reader.wrote(entry)
            pending.clear()
            size = 0


async def _write(send: Send, data: bytes, pace: Pace) -> None:
    """Raises TooSlowError when a server without a write deadline of its own makes no progress."""
    with trio.fail_after(pace.write_timeout * 2):
        await send({"type": "http.response.body", "body": data, "more_body": True})
