"""More connections than there may be."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.harness import RawClient, Server, answers, get, post, reply, serving
from trio_mcp.transports.listener import Limits, Receive, Scope, Send
from trio_mcp.transports.listener.server import REFUSED_AT_ONCE


async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers `/now` at once and everything else never."""
    if scope["path"] != "/now":
        await trio.sleep_forever()
    await reply(send, b"ok")


async def test_the_connection_that_was_idle_for_longest_makes_way(autojump_clock: MockClock) -> None:
    async with serving(waiting, Limits(connections=2)) as server:
        oldest, busy = server.connect(), server.connect()
        await busy.say(get("/later"))
        new = server.connect()
        await new.say(get("/now"))
        assert answers(await new.hear(), closed=False)[0].status == 200
        assert await oldest.hear_all() == b""


async def test_when_none_is_idle_a_new_connection_hears_503_and_none_that_works_is_cut(
    autojump_clock: MockClock,
) -> None:
    async with serving(waiting, Limits(connections=2)) as server:
        busy = [server.connect(), server.connect()]
        for client in busy:
            await client.say(get("/later"))
        await wait_all_tasks_blocked()
        new = server.connect()
        await new.say(get("/now"))
        (answer,) = answers(await new.hear_all())
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        await busy[0].hang_up()
        await wait_all_tasks_blocked()


async def test_those_that_are_refused_at_once_are_bounded_too(autojump_clock: MockClock) -> None:
    async with serving(waiting, Limits(connections=1)) as server:
        first = server.connect()
        await first.say(get("/later"))
        await wait_all_tasks_blocked()
        refused = [server.connect() for _ in range(REFUSED_AT_ONCE + 1)]
        await wait_all_tasks_blocked()
        for client in refused[:-1]:
            assert (await client.hear()).startswith(b"HTTP/1.1 503 ")
        late = refused[-1]
        for client in refused[:-1]:
            await client.hang_up()
        assert (await late.hear()).startswith(b"HTTP/1.1 503 ")


async def lingers(server: Server) -> RawClient:
    """A connection that was answered early, whose body still comes."""
    client = server.connect()
    await client.say(b"POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{")
    assert (await client.hear()).startswith(b"HTTP/1.1 200 ")
    return client


async def test_connections_that_linger_keep_nobody_out(autojump_clock: MockClock) -> None:
    async with serving(waiting, Limits(connections=1)) as server:
        began = trio.current_time()
        lingering = [await lingers(server) for _ in range(3 * REFUSED_AT_ONCE)]
        served = server.connect()
        await served.say(get("/now"))
        assert answers(await served.hear(), closed=False)[0].status == 200
        assert trio.current_time() == began
        for client in lingering[: 1 - REFUSED_AT_ONCE]:
            with pytest.raises(trio.BrokenResourceError):
                await client.say(b" ")
        for client in lingering[1 - REFUSED_AT_ONCE :]:
            await client.say(b" ")


async def test_those_that_are_refused_and_linger_keep_nobody_waiting(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/now":
            return await reply(send, b"ok")
        await receive()
        await receive()

    async with serving(app, Limits(connections=2)) as server:
        busy = [server.connect(), server.connect()]
        for client in busy:
            await client.say(get("/later"))
        await wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(3 * REFUSED_AT_ONCE):
            client = server.connect()
            await client.say(post(b"{}"))
            assert (await client.hear()).startswith(b"HTTP/1.1 503 "), "a place that is taken stays so"
        await busy[0].hang_up()
        await wait_all_tasks_blocked()
        client = server.connect()
        await client.say(get("/now"))
        assert answers(await client.hear(), closed=False)[0].status == 200
        assert trio.current_time() == began


@pytest.mark.parametrize("limit", [None, 3])
async def test_below_the_bound_nothing_is_closed(limit: int | None) -> None:
    async with serving(waiting, Limits(connections=limit)) as server:
        for client in [server.connect() for _ in range(3)]:
            await client.say(get("/now"))
            assert answers(await client.hear(), closed=False)[0].status == 200
            await client.say(get("/now"))
            assert answers(await client.hear(), closed=False)[0].status == 200
