"""One WebSocket from its 101 to its close: a channel whose messages are text frames.

receive ─ frames ─▶ Channel ─▶ requests run
send ◀─── frames ◀─ Output: one writer, one event log

Nothing waits here: each message is handed on as it comes, and what there is no room for is refused. Where stdio stops reading, because
its client has no other connection, this one ends.

   the client closes or is gone ─┐                  ┌─ calls are cancelled, and answered where somebody reads
   idle, expired, drained ───────┼─▶ end(Close): ───┼─ the session is closed with the reason of that
   the session ends by itself ───┘   the first one  └─ what waits is written, then the close frame
                                     counts
"""

from __future__ import annotations

from collections import deque
from functools import partial

import trio

from trio_mcp.dispatch.call import Ending, Service
from trio_mcp.protocol.handshake import Offer
from trio_mcp.protocol.jsonrpc import Request
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.stop_times import CUT_ANSWERS_SECONDS, POLL_SECONDS
from trio_mcp.streams.account import HARD, Account
from trio_mcp.transports.channel.channel import Caller, Channel
from trio_mcp.transports.channel.output import Output
from trio_mcp.transports.channel.pipeline import Pipeline
from trio_mcp.transports.websocket import closing
from trio_mcp.transports.websocket.closing import Close
from trio_mcp.transports.websocket.wire import CLIENT_GONE, WebSocketWire

__all__ = ["Connection"]

_HELD_BYTES = 256
"""What a message that is held takes in memory besides its bytes."""

UNREAD_SPANS = 2
"""How many times the events of a stream may wait: what is not dropped beyond one are answers, of a client that goes on asking."""


class Connection:
    """Serves one client.

    `address` is the client's, where it is trusted. `idle_seconds` without a message and without a call in flight end it, and so does
    `expires` (trio clock), the end of its authentication.
    """

    def __init__(
        self,
        service: Service,
        hub: Hub,
        wire: WebSocketWire,
        caller: Caller,
        *,
        address: str | None,
        idle_seconds: float,
        expires: float,
    ) -> None:
        self._service = service
        self._hub = hub
        self._wire = wire
        self._caller = caller
        self._address = address
        self._idle_seconds = idle_seconds
        self._expires = expires
        options, account = service.options, service.account
        self._output = Output(
            account,
            max_events=options.streams.events,
            max_bytes=options.streams.stream_bytes,
            write_timeout=options.write_timeout,
            give_up=partial(self.end, closing.FLOODED),
        )
        self._log = self._output.log
        pipeline = Pipeline(options.max_in_flight, account, room=0, counts_running=True)
        self._channel = Channel(service, self._output, pipeline, self._open_session, caller)
        self._held: _Held | None = None
        """Messages that came while `initialize` is being answered; None at all other times."""
        self._ending = trio.Event()
        self.close: Close | None = None
        """How it ends, once that is known."""

    @property
    def session(self) -> LiveSession | None:
        """The session that `initialize` has opened."""
        return self._channel.session

    def end(self, close: Close) -> None:
        """End it. The first call counts. Never blocks."""
        if self.close is None:
            self.close = close
            self._ending.set()
            if close.aborted:
                self._wire.abort()

    async def end_at_rest(self, close: Close) -> None:
        """End it as soon as no call of it runs."""
        while self._held is not None or self._channel.calls_run:  # noqa: ASYNC110
            await trio.sleep(POLL_SECONDS)
        self.end(close)

    async def run(self) -> None:
        """Accept it, and serve until it has ended. What its client does raises nothing."""
        self._wire.call_on_progress(self._log.moved)
        try:
            await self._wire.accept()
            await self._serve()
        except CLIENT_GONE:
            self.end(closing.by_client(1006))
        finally:
            self.end(closing.CRASHED)
            self._output.discard()
            if self._held is not None:
                self._held.clear()
            if self.session is not None and self.close is not None:
                self.session.close(self.close.session)

    async def _serve(self) -> None:
        async with trio.open_nursery() as writing:
            writing.start_soon(self._write)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._read, tasks)
                tasks.start_soon(self._watch_clock)
                async with trio.open_nursery() as calls:
                    self._channel.nursery = calls
                    await self._ending.wait()
                    self._channel.end_calls(self._ending_of_calls)
                    calls.cancel_scope.deadline = trio.current_time() + CUT_ANSWERS_SECONDS
                await self._close_session()
                tasks.cancel_scope.cancel("the connection ends")
            self._log.end()
            if self._nobody_reads:
                writing.cancel_scope.cancel("nobody reads")
            else:
                writing.cancel_scope.deadline = trio.current_time() + self._service.options.write_timeout
        if writing.cancel_scope.cancelled_caught:
            # A frame may be cut in the middle, and a close frame would be read as the rest of it.
            self._wire.abort()
        elif self.close is not None and not self._nobody_reads:
            await self._wire.close(self.close)

    @property
    def _nobody_reads(self) -> bool:
        return self.close is not None and (self.close.by_client or self.close.aborted)

    @property
    def _ending_of_calls(self) -> Ending:
        if self._nobody_reads:
            return Ending.CLIENT_LEFT
        return Ending.SHUTDOWN if self.close is closing.GOING_AWAY else Ending.SESSION_CLOSED

    async def _close_session(self) -> None:
        """Close the session, and wait until its calls have their answers."""
        if self.session is None or self.close is None:
            return
        self.session.close(self.close.session)
        with trio.move_on_after(0 if self._nobody_reads else CUT_ANSWERS_SECONDS):
            while not self._log.ended:
                await self._log.changed()

    async def _write(self) -> None:
        try:
            await self._output.write(self._wire.write)
        except CLIENT_GONE as gone:
            self.end(closing.STALLED if isinstance(gone, trio.TooSlowError) else closing.by_client(1006))
        else:
            # The log ends with its session.
            reason = None if self.session is None else self.session.closed_because
            self.end(closing.CRASHED if reason is None else closing.by_session(reason))

    async def _read(self, tasks: trio.Nursery) -> None:
        while True:
            found = await self._wire.receive()
            if isinstance(found, Close):
                self.end(found)
                if found.by_client:
                    return
            elif not self._ending.is_set():
                self._take(found, tasks)

    def _take(self, data: bytes, tasks: trio.Nursery) -> None:
        if self._is_flooded:
            self.end(closing.FLOODED)
        elif self._held is not None:
            self._held.add(data)
            if len(self._held) > self._service.options.max_in_flight or self._held.size > self._wire.max_message:
                self.end(closing.OUT_OF_ORDER)
        else:
            opening = self._channel.take(data)
            if opening is not None:
                self._held = _Held(self._service.account)
                tasks.start_soon(self._open, opening, self._held)

    @property
    def _is_flooded(self) -> bool:
        """Whether so much waits for the client that it must not ask for more. Each new message is compared with all that wait."""
        service = self._service
        many = len(self._log.backlog) > UNREAD_SPANS * service.options.streams.events
        return many or self._log.unread_bytes >= HARD * service.account.share

    async def _open(self, opening: Request | None, held: _Held) -> None:
        """Open the session, then take what came meanwhile: `_read` waits for nothing."""
        while opening is not None or held:
            if opening is not None:
                await self._channel.open(opening)
                opening = None
            else:
                opening = self._channel.take(held.take())
        self._held = None

    async def _open_session(self, offer: Offer) -> LiveSession:
        who = self._caller.principal
        session = await self._hub.open(
            offer, who, address=self._address, standalone=self._log, over=self._channel.end_with_session
        )
        # Whether it is idle is known here, where requests of 2026-07-28 count, too.
        session.add_reader()
        return session

    async def _watch_clock(self) -> None:
        """End the connection when it is idle, or its authentication expires."""
        while True:
            now = trio.current_time()
            if now >= self._expires:
                return self.end(closing.EXPIRED)
            if self._channel.busy or self._log.unread:
                self._wire.used_at = now
            elif now >= self._wire.used_at + self._idle_seconds:
                return self.end(closing.IDLE)
            await trio.sleep_until(min(self._wire.used_at + self._idle_seconds, self._expires))


class _Held:
    """Messages that wait for the answer to `initialize`, in order; `account` counts them as requests that have arrived."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._messages: deque[bytes] = deque()
        self.size: int = 0
        """Bytes of them."""

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, data: bytes) -> None:
        self._messages.append(data)
        self.size += len(data)
        self._account.charge_request(len(data) + _HELD_BYTES)

    def take(self) -> bytes:
        data = self._messages.popleft()
        self.size -= len(data)
        self._account.release_request(len(data) + _HELD_BYTES)
        return data

    def clear(self) -> None:
        while self._messages:
            self.take()
