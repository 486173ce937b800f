"""Slow peers, silent peers, peers that do not read."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair

from tests.transports.listener.harness import (
    RawClient,
    Server,
    answers,
    echo,
    get,
    post,
    read_body,
    register_of,
    reply,
    serving,
)
from trio_mcp.transports.listener import ClientDisconnected, Limits, Receive, Scope, Send
from trio_mcp.transports.listener.connection import LINGER_BYTES, LINGER_QUIET_SECONDS
from trio_mcp.transports.listener.eviction import LINGER_SECONDS


async def drip(client: RawClient, data: bytes, seconds: float) -> None:
    """Send one byte every so many (virtual) seconds until the server has enough of it."""
    try:
        for at in range(len(data)):
            await client.say(data[at : at + 1])
            await trio.sleep(seconds)
    except trio.BrokenResourceError:
        pass


async def heard_by_dripping(server: Server, at_once: bytes, slowly: bytes, seconds: float) -> tuple[bytes, float]:
    """What a slow sender hears, and how long it took."""
    client = server.connect()
    began = trio.current_time()
    await client.say(at_once)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, client, slowly, seconds)
        heard = await client.hear_all()
        took = trio.current_time() - began
        nursery.cancel_scope.cancel("the server has closed")
    return heard, took


async def test_a_slow_head_is_a_408_and_a_close(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        heard, took = await heard_by_dripping(server, b"G", get("/", "X: " + "a" * 1000)[1:], 1.0)
    assert [answer.status for answer in answers(heard)] == [408]
    assert 10.0 <= took <= 11.0 + 1.0


async def test_a_slow_body_is_a_408_and_a_close(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        request = post(b"x" * 1000)
        heard, took = await heard_by_dripping(server, request[:-1000], request[-1000:], 1.0)
    assert [answer.status for answer in answers(heard)] == [408]
    assert 60.0 <= took <= 61.0 + 1.0


async def test_a_slow_but_fair_body_is_served(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        heard, _ = await heard_by_dripping(server, post(b"x" * 50)[:-50], b"x" * 50, 1.0)
    assert [answer.status for answer in answers(heard)] == [200]


async def test_an_idle_connection_ends_silently(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        client = server.connect()
        began = trio.current_time()
        assert await client.hear_all() == b""
        assert trio.current_time() - began == pytest.approx(75)


async def test_each_request_begins_the_idle_time_anew(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        client = server.connect()
        began = trio.current_time()
        for _ in range(3):
            await trio.sleep(50)
            await client.say(get())
            assert answers(await client.hear(), closed=False)[0].status == 200
        assert await client.hear_all() == b""
        assert trio.current_time() - began == pytest.approx(150 + 75)


async def test_idle_connections_end_each_in_its_time(autojump_clock: MockClock) -> None:
    ends: list[float] = []

    async def wait_for_the_end(client: RawClient) -> None:
        await client.hear_all()
        ends.append(trio.current_time())

    async with serving(echo) as server:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(wait_for_the_end, server.connect())
                await trio.sleep(10)
    assert [end - began for end in ends] == pytest.approx([75, 85, 95, 105])


async def test_a_running_exchange_is_not_idle(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(500)
        await reply(send, b"late")

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        assert answers(await client.hear_all())[0].body == b"late"


async def stream_forever(send: Send, note: Callable[[str], None]) -> None:
    await send({"type": "http.response.start", "status": 200})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    except ClientDisconnected as error:
        note(str(error))


async def test_a_reader_that_stalls_loses_its_connection_after_the_write_deadline(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    notes: list[str] = []
    called_back = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        register_of(scope)(called_back.set)
        await stream_forever(send, notes.append)
        notes.append((await receive())["type"])
        notes.append((await receive())["type"])

    ours, theirs = lockstep_stream_pair()
    async with serving(app) as server:
        server.accept(theirs)
        await ours.send_all(get())
        began = trio.current_time()
        for _ in range(3):
            await trio.sleep(19)
            assert await ours.receive_some()
        await called_back.wait()
        assert trio.current_time() - began == pytest.approx(3 * 19 + 20)
        await RawClient(ours).hear_all()
    assert notes == ["the client took too little for 20 s", "http.request", "http.disconnect"]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)


@pytest.mark.parametrize("last", [True, False])
async def test_nothing_follows_a_write_that_the_app_gave_up(
    last: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    served: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        with trio.move_on_after(1):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": not last})
        if not last:
            with pytest.raises(ClientDisconnected):
                await send({"type": "http.response.body", "body": b"the rest"})

    ours, theirs = lockstep_stream_pair()
    async with serving(app) as server:
        server.accept(theirs)
        await ours.send_all(get("/first") + get("/second"))
        await trio.sleep(2)
        await RawClient(ours).hear_all()
    assert served == ["/first"]
    assert caplog.records == []


async def test_a_body_error_is_told_to_the_app_as_a_disconnect(autojump_clock: MockClock) -> None:
    bodies: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await read_body(receive))

    async with serving(app, Limits(body_seconds=1)) as server:
        client = server.connect()
        await client.say(post(b"abc")[:-1])
        assert answers(await client.hear_all())[0].status == 408
    assert bodies == [None]


async def test_an_app_that_raises_for_a_bad_body_is_not_to_blame(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if await read_body(receive) is None:
            raise LookupError("no body")

    async with serving(app, Limits(body_seconds=1)) as server:
        client = server.connect()
        await client.say(post(b"abc")[:-1])
        assert answers(await client.hear_all())[0].status == 408
    assert caplog.records == []


async def test_a_refused_sender_has_a_moment_to_read_why(autojump_clock: MockClock) -> None:
    async with serving(echo, Limits(body_bytes=10)) as server:
        client = server.connect()
        await client.say(post(b"x" * 11))
        assert answers(await client.hear(), closed=False)[0].status == 413
        began = trio.current_time()
        await drip(client, b"x" * 100, 0.25)
        assert await client.hear_all() == b""
        assert trio.current_time() - began <= LINGER_SECONDS + 0.25


async def test_a_refused_sender_that_says_nothing_more_is_not_waited_for_as_long(autojump_clock: MockClock) -> None:
    async with serving(echo, Limits(body_bytes=10)) as server:
        client = server.connect()
        await client.say(b"FOO\r\n\r\n")
        assert answers(await client.hear_all())[0].status == 400
        await trio.sleep(LINGER_QUIET_SECONDS + 0.1)
        with pytest.raises(trio.BrokenResourceError):
            await client.say(b"x")


async def test_what_a_refused_sender_sends_on_has_a_bound(autojump_clock: MockClock) -> None:
    async with serving(echo, Limits(body_bytes=10)) as server:
        client = server.connect()
        await client.say(b"FOO\r\n\r\n")
        sent = 0
        with pytest.raises(trio.BrokenResourceError):
            while sent < 2 * LINGER_BYTES:
                await client.say(b"x" * (1 << 20))
                await trio.testing.wait_all_tasks_blocked()
                sent += 1 << 20
        assert sent <= LINGER_BYTES + (1 << 20)
