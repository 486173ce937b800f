"""The writer of one stream: what its client takes slowly, and what a handler that waits for its reader learns of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_mcp.protocol.errors import SlowReader
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import EventLog
from trio_mcp.transports.asgi import Message
from trio_mcp.transports.http.event_stream import EventStream, Pace, StreamHead
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import CHUNK_BYTES

PATIENCE = 10.0


@pytest.mark.parametrize(("seconds", "gives_up"), [(0.8 * PATIENCE, False), (1.2 * PATIENCE, True)])
async def test_a_handler_waits_for_the_reader_of_a_long_message_as_long_as_each_piece_is_taken_in_time(
    autojump_clock: MockClock, seconds: float, gives_up: bool
) -> None:
    pieces = 0

    async def send(message: Message) -> None:
        nonlocal pieces
        pieces += len(message.get("body", b"")) > CHUNK_BYTES // 2
        await trio.sleep(seconds)

    scope: dict[str, Any] = {"method": "POST", "path": "/mcp", "headers": []}
    exchange = HttpExchange.over_asgi(scope, trio.sleep_forever, send)
    log = EventLog(Budget(), replays=False)
    log.append(b"x" * 5 * CHUNK_BYTES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventStream(exchange, log.open_reader(), StreamHead(), Pace(), []).run)
        if gives_up:
            with pytest.raises(SlowReader):
                await log.flushed(PATIENCE)
        else:
            # The head and the first comment are no progress of the log.
            await trio.sleep(2.5 * seconds)
            await log.flushed(PATIENCE)
            assert pieces >= 5
        nursery.cancel_scope.cancel()
