"""Streams that stand open end some time after the token that opened them; what belongs to a call runs to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.auth.issuer import NOW, RESOURCE, token, verifier
from tests.transports.http.harness import Exchange, Wire, serving
from trio_mcp import Context, MCPServer
from trio_mcp.auth import BearerAuth
from trio_mcp.dispatch.options import Options

SOON = 3
"""Seconds that the token lives which opens a stream."""
EARLIEST, LATEST = SOON + 30, SOON + 40
"""Between these seconds the stream ends."""


def bearer(seconds: float) -> dict[str, str]:
    """A token that lives that long."""
    return {"authorization": f"Bearer {token(exp=NOW + seconds)}"}


@asynccontextmanager
async def standing(**options: Any) -> AsyncIterator[tuple[MCPServer, Wire]]:
    """A server whose clock of tokens goes with the clock of the test."""
    began = trio.current_time()

    def now() -> float:
        return NOW + trio.current_time() - began

    auth = BearerAuth(verifier(now=now), resource=RESOURCE, now=now, **options)
    mcp = MCPServer("test", auth=auth, options=Options(max_listen_streams=1_000))

    @mcp.tool
    async def slow(ctx: Context) -> str:
        await ctx.report_progress(1)
        await trio.sleep(100)
        return "done"

    async with serving(mcp) as wire:
        yield mcp, wire


async def fields_until_end(exchange: Exchange) -> list[dict[str, str]]:
    """Every event that the stream still has."""
    found = []
    while (fields := await exchange.event()) is not None:
        found.append(fields)
    return found


@pytest.mark.requirement("auth-49")
async def test_a_get_stream_ends_after_its_token_and_nothing_is_missed(autojump_clock: MockClock) -> None:
    async with standing() as (mcp, wire):
        session = await wire.open(headers=bearer(300))
        began = trio.current_time()
        old = bearer(SOON)
        stream = session.listen(headers=old)
        priming = await stream.event()
        assert priming is not None
        assert [set(it) for it in await fields_until_end(stream)] == [{"retry"}]
        assert EARLIEST <= trio.current_time() - began <= LATEST
        mcp.tool(lambda: None, name="new")
        late = session.listen(priming["id"], old)
        assert await late.head() == 401
        assert 'error="invalid_token"' in late.headers["www-authenticate"]
        again = session.listen(priming["id"], bearer(300))
        assert (await again.message())["method"] == "notifications/tools/list_changed"


@pytest.mark.requirement("auth-49")
async def test_a_busy_get_stream_ends_as_well(autojump_clock: MockClock) -> None:
    async with standing() as (mcp, wire), trio.open_nursery() as nursery:
        session = await wire.open(headers=bearer(300))
        began = trio.current_time()
        stream = session.listen(headers=bearer(SOON), buffer=0)

        async def chatter() -> None:
            while True:
                mcp.notify_list_changed("tools")
                await trio.sleep(0.1)

        nursery.start_soon(chatter)
        while set(fields := await stream.event() or {}) != {"retry"}:
            assert fields
            # Slower than the changes, so that there is always one to write.
            await trio.sleep(0.11)
        # The client is some seconds behind.
        assert EARLIEST <= trio.current_time() - began <= LATEST + 10
        # What came since then waits for the next reader.
        assert (await session.listen(headers=bearer(300)).message())["method"] == "notifications/tools/list_changed"
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("auth-50")
async def test_a_subscription_ends_with_its_result(autojump_clock: MockClock) -> None:
    async with standing() as (_, wire):
        began = trio.current_time()
        stream = wire.modern(headers=bearer(SOON)).listen(4, toolsListChanged=True)
        acknowledged, result = await stream.messages()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert (result["id"], set(result["result"])) == (4, {"resultType", "_meta"})
        assert EARLIEST <= trio.current_time() - began <= LATEST


@pytest.mark.requirement("auth-50")
async def test_the_stream_of_a_call_runs_to_the_end_of_the_call(autojump_clock: MockClock) -> None:
    async with standing() as (_, wire):
        session = await wire.open(headers=bearer(300))
        params = {"name": "slow", "arguments": {}, "_meta": {"progressToken": 1}}
        legacy = session.start("tools/call", params, headers=bearer(SOON))
        cut = session.start("tools/call", params, headers=bearer(SOON))
        first = await cut.event()
        assert first is not None
        cut.disconnect()
        resumed = session.listen(first["id"], headers=bearer(SOON))
        modern = wire.modern(headers=bearer(SOON)).tool("slow")
        for call in (legacy, resumed, modern):
            assert (await call.result())["content"][0]["text"] == "done"


async def test_streams_may_stay_open_where_the_server_says_so(autojump_clock: MockClock) -> None:
    async with standing(stream_until_expiry=False) as (_, wire):
        session = await wire.open(headers=bearer(300))
        stream = session.listen(headers=bearer(SOON))
        await stream.event()
        with trio.move_on_after(200) as waited:
            await stream.event()
        assert waited.cancelled_caught


@pytest.mark.requirement("auth-51")
async def test_streams_that_expire_together_do_not_end_together(autojump_clock: MockClock) -> None:
    ends: Counter[int] = Counter()
    async with standing() as (_, wire):
        began = trio.current_time()
        headers = bearer(SOON)

        async def listen() -> None:
            await wire.modern(headers=headers).listen(toolsListChanged=True).messages()
            ends[int(trio.current_time() - began)] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                nursery.start_soon(listen)
    assert ends.total() == 1_000
    assert set(ends) <= set(range(EARLIEST, LATEST + 1))
    assert max(ends.values()) <= 200
