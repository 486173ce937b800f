"""Serves one client over stdio, one message a line, both eras at once (2026-07-28 basic/transports/stdio).

stdin ─ lines ─▶ Channel ─▶ Pipeline ─▶ requests run
          ▲                    │
          └─ stops ◀───────────┘ while too many requests wait
stdout ◀─ lines ◀─ Output: one writer, one event log

Back-pressure: `max_in_flight` requests run. More are read, and wait in the pipeline; replies and cancellations overtake them. Reading
stops when the waiting requests exceed their share of the node's memory, unless a handler waits for a reply of the client: then reading
goes on, and further requests are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import trio

from trio_mcp.auth.principal import ANONYMOUS
from trio_mcp.defaults import MAX_BODY
from trio_mcp.dispatch.call import Service
from trio_mcp.observability.logs import event
from trio_mcp.protocol.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError
from trio_mcp.protocol.handshake import Offer
from trio_mcp.protocol.jsonrpc import Reply, encode_error
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.stop_times import STDIO_LAST_ANSWERS_SECONDS
from trio_mcp.streams.account import HARD, TICK_SECONDS
from trio_mcp.transports.channel.channel import Caller, Channel
from trio_mcp.transports.channel.output import Output
from trio_mcp.transports.channel.pipeline import Pipeline
from trio_mcp.transports.stdio.lines import LineReader, LineTooLong, Outline, write_line

__all__ = ["StdioServer"]

logger: logging.Logger = logging.getLogger("trio_mcp.stdio")

MAX_WAITING_EVENTS = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Of notifications that wait: more than in a stream of HTTP, because one pipe carries everything."""


class StdioServer:
    """Serves one client on a pair of byte streams."""

    def __init__(self, service: Service, hub: Hub, *, max_message: int = MAX_BODY) -> None:
        self._service = service
        self._hub = hub
        self._max_message = max_message
        self._output = Output(
            service.account,
            max_events=MAX_WAITING_EVENTS,
            max_bytes=MAX_WAITING_BYTES,
            write_timeout=service.options.write_timeout,
            give_up=self._give_up,
        )
        self._out = self._output.log
        self._pipeline = Pipeline(service.options.max_in_flight, service.account, room=service.account.share)
        self._channel = Channel(service, self._output, self._pipeline, self._open_session, Caller())
        self._stuck = False

    async def serve(
        self,
        stdin: trio.abc.ReceiveStream,
        stdout: trio.abc.SendStream,
        *,
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve until stdin ends, or the client stops reading. The hub must be running.

        `ending` is called, perhaps more than once, when the end begins: from then on a handler that shields itself delays it.
        """
        try:
            async with trio.open_nursery() as writing:
                writing.start_soon(self._write, stdout, writing.cancel_scope, ending)
                async with trio.open_nursery() as nursery:
                    self._channel.nursery = nursery
                    nursery.start_soon(self._pipeline.run)
                    await self._read(stdin)
                    await self._drained()
                    ending()
                    await self._answers()
                    self._pipeline.clear()
                    self._end_all()
                    nursery.cancel_scope.cancel("stdin ended")
                self._out.end()
        finally:
            self._pipeline.clear()
            self._output.discard()

    async def _open_session(self, offer: Offer) -> LiveSession:
        over = self._channel.end_with_session
        session = await self._hub.open(offer, ANONYMOUS, standalone=self._out, over=over)
        # The session must not idle out while the client is there.
        session.add_reader()
        return session

    async def _read(self, stdin: trio.abc.ReceiveStream) -> None:
        lines = LineReader(stdin, self._max_message)
        while True:
            await self._room()
            try:
                line = await lines.next_line()
            except LineTooLong as fault:
                self._refuse_long(fault.outline)
                continue
            if line is None:
                return
            opening = self._channel.take(line)
            if opening is not None:
                await self._channel.open(opening)
            await trio.lowlevel.checkpoint()

    async def _room(self) -> None:
        """Wait while nothing more should be read. A client that writes without reading is logged once."""
        while self._has_enough:
            if not self._stuck and self._out.unread:
                self._stuck = True
                event(
                    logger, logging.WARNING, "the client sends requests and does not read the answers; waiting for it"
                )
            # A timeout, because there is no event for memory that is no longer short.
            with trio.move_on_after(TICK_SECONDS):
                await self._pipeline.next_end()

    @property
    def _has_enough(self) -> bool:
        """Whether nothing more should be read now.

        While a handler waits for a reply of the client, reading goes on: the reply comes behind the requests sent before it.
        """
        if self._out.waiting_bytes >= HARD * self._service.account.share:
            # The answers of calls never amount to so much: these are errors, for a client that sends and does not read.
            return True
        session = self._channel.session
        asks = session is not None and session.awaits_reply
        return self._pipeline.full and not asks

    def _refuse_long(self, outline: Outline) -> None:
        text = f"A message has at most {self._max_message} bytes"
        answered, asked = outline.reply_id(), outline.request_id()
        session = self._channel.session
        if answered is not None and session is not None:
            # The handler that sent the request must not wait for a reply that was skipped.
            session.receive(Reply(answered, None, {"code": INVALID_REQUEST, "message": text}))
        elif answered is None:
            self._output.send(
                encode_error(asked, ProtocolError(PARSE_ERROR if asked is None else INVALID_REQUEST, text))
            )

    async def _drained(self) -> None:
        """Wait while requests still begin, or messages are still read, each within STDIO_LAST_ANSWERS_SECONDS."""
        while self._pipeline or self._out.unread:
            before = len(self._pipeline), self._out.moves
            with trio.move_on_after(STDIO_LAST_ANSWERS_SECONDS):
                while before == (len(self._pipeline), self._out.moves):
                    await self._out.changed()
                continue
            return

    def _give_up(self) -> None:
        event(logger, logging.WARNING, "the client reads nothing; giving it up")
        if self._channel.nursery is not None:
            self._channel.nursery.cancel_scope.cancel("the client reads nothing")
        self._end_all()

    async def _answers(self) -> None:
        """Wait for the answers of requests in flight, STDIO_LAST_ANSWERS_SECONDS at most."""
        with trio.move_on_after(STDIO_LAST_ANSWERS_SECONDS):
            while self._channel.calls_run:
                await self._out.changed()

    def _end_all(self) -> None:
        for ended in list(self._service.listen_calls.values()):
            ended.set()
        if self._channel.session is not None:
            self._channel.session.close(CloseReason.SHUTDOWN)

    async def _write(self, stdout: trio.abc.SendStream, scope: trio.CancelScope, ending: Callable[[], None]) -> None:
        try:
            await self._output.write(partial(write_line, stdout, self._service.options.write_timeout))
        except (trio.BrokenResourceError, trio.TooSlowError):
            event(logger, logging.INFO, "the client closed its end, or reads nothing")
        finally:
            # Without a writer no request can be answered.
            ending()
            self._end_all()
            scope.cancel("nothing more can be said")
