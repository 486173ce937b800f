"""The end of a server: nobody is cut off, nobody holds it up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.harness import Server, answers, echo, get, read_body, reply, serving
from trio_mcp.transports.listener import Receive, Scope, Send


async def stop(server: Server) -> None:
    server.stopping.set()
    with trio.fail_after(1000):
        await server.stopped.wait()


async def test_idle_connections_close_at_once(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        fresh, used = server.connect(), server.connect()
        await used.say(get())
        assert answers(await used.hear(), closed=False)[0].status == 200
        began = trio.current_time()
        await stop(server)
        assert trio.current_time() == began
        assert await fresh.hear_all() == await used.hear_all() == b""


async def test_what_runs_is_answered_and_told_to_close(autojump_clock: MockClock) -> None:
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await reply(send, b"done")

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await wait_all_tasks_blocked()
        server.stopping.set()
        await wait_all_tasks_blocked()
        assert not server.stopped.is_set()
        go.set()
        (answer,) = answers(await client.hear_all())
        assert (answer.body, answer.headers[b"connection"]) == (b"done", b"close")
        await stop(server)


async def test_a_stream_that_ends_while_stopping_ends_cleanly(autojump_clock: MockClock) -> None:
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        heard = await client.hear()
        server.stopping.set()
        go.set()
        heard += await client.hear_all()
        assert heard.endswith(b"0\r\n\r\n")
        assert answers(heard)[0].body == b"onetwo"
        await stop(server)


async def test_a_request_half_way_in_is_still_served(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        client = server.connect()
        await client.say(get()[:10])
        await wait_all_tasks_blocked()
        server.stopping.set()
        await wait_all_tasks_blocked()
        await client.say(get()[10:])
        (answer,) = answers(await client.hear_all())
        assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
        await stop(server)


async def test_no_connection_is_accepted_any_more(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        await stop(server)
        with pytest.raises(trio.BrokenResourceError):
            server.connect()


async def test_cancelling_never_ends_a_response_cleanly(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await trio.sleep_forever()

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        heard = await client.hear()
    heard += await client.hear_all()
    assert heard.endswith(b"1\r\nx\r\n")


async def test_an_answer_given_just_before_the_stop_was_the_last(autojump_clock: MockClock) -> None:
    answered, go = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"done")
        answered.set()
        await go.wait()

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await answered.wait()
        server.stopping.set()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        go.set()
        assert [answer.body for answer in answers(await client.hear_all())] == [b"done"]
        await stop(server)
        assert trio.current_time() == began


async def fails_in_cleanup() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("cleanup")


async def test_a_cleanup_of_the_app_that_fails_does_not_fail_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_in_cleanup)
            await trio.sleep_forever()

    async with serving(app) as server:
        await server.connect().say(get())
        await wait_all_tasks_blocked()
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["the app failed"]
