"""Where a modern request's messages go: into plain JSON, or, once there is something to stream, to a task that streams.

handler ──finish──▶ nothing was said before: the reply goes out as JSON
   └──emit, or time is up──▶ EventLog ──▶ companion ──▶ client      the handler waits until its client has read
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from trio_mcp.observability.metrics import Metrics, StreamKind
from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.streams.account import Account
from trio_mcp.streams.event_log import Answer, Budget, EventLog, Kind, Overflow
from trio_mcp.transports.http.companions import Companion, Companions
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead, send_answer
from trio_mcp.transports.http.gate import may_be_json
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList

__all__ = ["Delivery"]


class Delivery:
    """The outbox of one exchange."""

    __slots__ = (
        "_account",
        "_answer",
        "_call_scope",
        "_companions",
        "_exchange",
        "_headers",
        "_kind",
        "_log",
        "_metrics",
        "_pace",
        "_streamer",
        "_streams",
    )

    answers_cancelled = True

    def __init__(
        self,
        exchange: HttpExchange,
        companions: Companions,
        call_scope: trio.CancelScope,
        pace: Pace,
        metrics: Metrics,
        account: Account,
        kind: StreamKind,
        headers: HeaderList,
        *,
        streams: bool,
    ) -> None:
        self._exchange = exchange
        self._companions = companions
        self._call_scope = call_scope
        self._pace = pace
        self._metrics = metrics
        self._account = account
        self._kind = kind
        self._headers = headers
        self._streams = streams
        """Whether the client takes a stream; otherwise it gets the reply and nothing else."""
        self._answer: Answer | None = None
        self._log: EventLog | None = None
        self._streamer: Companion | None = None

    @property
    def holder(self) -> None:
        """The exchange stands alone."""
        return None

    def open_stream(self) -> EventLog:
        """From now on messages go out as they come."""
        if self._log is None:
            self._log = EventLog(Budget(account=self._account), expected=1, replays=False)
            self._streamer = self._companions.start(partial(self._stream, self._log), self._call_scope.cancel)
        return self._log

    def client_left(self) -> None:
        """Closing the response stream is cancellation (2026-07-28 streamable-http)."""
        self._exchange.left = True
        self._call_scope.cancel("the client disconnected")
        if self._streamer is not None:
            self._streamer.cancel()

    async def complete(self) -> None:
        """Send the reply, or wait until all is streamed; raises OSError when the client is gone."""
        if self._answer is not None:
            # A handler that never blocks must not keep its turn; and when all who were ready have had theirs, their answers
            # leave in a row, which costs the kernel a third less than one by one.
            await trio.lowlevel.checkpoint()
            await self._reply(self._answer)
        elif self._streamer is not None:
            await self._streamer.finished()

    @property
    def streamer(self) -> Companion | None:
        """Who streams, if anybody does."""
        return self._streamer

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
            return await send_answer(self._exchange, answer, self._pace, self._headers, self._account)
        log = EventLog(Budget(account=self._account), expected=1, replays=False)
        log.finish(answer.body, answer.status)
        await self._stream(log)

    async def _stream(self, log: EventLog) -> None:
        self._metrics.stream_opened(self._kind)
        try:
            await EventStream(self._exchange, log.open_reader(), StreamHead(), self._pace, self._headers).run()
        finally:
            log.discard()
            self._metrics.stream_closed(self._kind)
