"""Where a modern request's messages go: into plain JSON, or, once there is something to stream, to a child that streams.

handler ──finish──▶ nothing was said before: the reply goes out as JSON
   └──emit, or time is up──▶ EventLog ──▶ child task ──▶ client      the handler waits until its client has read
"""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.observability.metrics import Metrics, StreamKind
from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.streams.event_log import Answer, Budget, EventLog, Kind, Overflow
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead, send_answer
from trio_mcp.transports.http.gate import may_be_json
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList

__all__ = ["Delivery"]


class Delivery:
    """The outbox of one exchange; what it streams, it streams in the exchange's own nursery."""

    __slots__ = (
        "_answer",
        "_events",
        "_exchange",
        "_headers",
        "_kind",
        "_log",
        "_metrics",
        "_nursery",
        "_pace",
        "_streams",
        "_written",
    )

    answers_cancelled = True

    def __init__(
        self,
        exchange: HttpExchange,
        nursery: trio.Nursery,
        pace: Pace,
        metrics: Metrics,
        kind: StreamKind,
        headers: HeaderList,
        *,
        streams: bool,
    ) -> None:
        self._exchange = exchange
        self._nursery = nursery
        self._pace = pace
        self._metrics = metrics
        self._kind = kind
        self._headers = headers
        self._streams = streams
        """Whether the client takes a stream; otherwise it gets the reply and nothing else."""
        self._answer: Answer | None = None
        self._log: EventLog | None = None
        self._events: EventStream | None = None
        self._written: trio.Event | None = None

    def open_stream(self) -> EventLog:
        """From now on messages go out as they come."""
        if self._log is None:
            self._log = EventLog(Budget(), expected=1)
            self._events = self._stream(self._log)
            self._written = trio.Event()
            self._nursery.start_soon(self._run, self._events, self._written)
        return self._log

    async def written(self) -> None:
        """Wait for the streaming child, if there is one."""
        if self._written is not None:
            await self._written.wait()

    async def complete(self) -> None:
        """After the nursery: send the reply, or what a child that was cancelled did not get to write of it."""
        if self._answer is not None:
            await self._reply(self._answer)
        elif self._events is not None and not self._events.over and not self._events.torn:
            await self._events.run()

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """The first message opens the stream."""
        if self._streams:
            self.open_stream().append(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        """Keep the reply for `complete`, unless a stream is there to take it."""
        if self._log is None:
            self._answer = Answer(body or b"", status)
            return
        try:
            self._log.finish(body or b"", status)
        except Overflow:
            self._log.end()

    async def settle(self) -> None:
        """Raises SlowReader."""
        if self._log is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._log.flushed(self._pace.write_timeout)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Modern questions end the call instead."""
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Modern streams cannot be resumed."""

    async def _reply(self, answer: Answer) -> None:
        if may_be_json(self._exchange, answer):
            return await send_answer(self._exchange.send, answer, self._headers)
        log = EventLog(Budget(), expected=1)
        log.finish(answer.body, answer.status)
        await self._stream(log).run()

    def _stream(self, log: EventLog) -> EventStream:
        return EventStream(self._exchange, log.open_reader(), StreamHead(), self._pace, self._headers)

    async def _run(self, events: EventStream, written: trio.Event) -> None:
        self._metrics.stream_opened(self._kind)
        try:
            await events.run()
        finally:
            self._metrics.stream_closed(self._kind)
        written.set()
