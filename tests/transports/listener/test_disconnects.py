"""How an app learns that its client has left."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.harness import answers, echo, get, post, read_body, register_of, reply, serving
from trio_mcp.transports.listener import ClientDisconnected, Limits, Receive, Scope, Send


async def test_a_client_that_leaves_ends_receive(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await wait_all_tasks_blocked()
        assert seen == []
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert seen == ["http.disconnect", "http.disconnect"]


async def test_receive_says_disconnect_when_the_response_is_complete(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            seen.append((await receive())["type"])

        await read_body(receive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            assert seen == []
            await reply(send, b"done")
        seen.append((await receive())["type"])

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        assert answers(await client.hear_all())[0].body == b"done"
    assert seen == ["http.disconnect", "http.disconnect"]


async def test_callbacks_run_once_when_the_client_leaves(autojump_clock: MockClock) -> None:
    calls: list[str] = []
    waiting = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        register_of(scope)(lambda: calls.append("first"))
        register_of(scope)(lambda: calls.append("second"))
        await waiting.wait()
        register_of(scope)(lambda: calls.append("late"))
        calls.append("registered")

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await wait_all_tasks_blocked()
        assert calls == []
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert calls == ["first", "second"]
        waiting.set()
        await wait_all_tasks_blocked()
    assert calls == ["first", "second", "late", "registered"]


async def test_a_callback_of_an_earlier_exchange_is_not_called(autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        register_of(scope)(lambda: calls.append(scope["path"]))
        if scope["path"] == "/2":
            await trio.sleep_forever()
        await reply(send, b"")

    async with serving(app) as server:
        client = server.connect()
        await client.say(get("/1"))
        await client.hear()
        await client.say(get("/2"))
        await wait_all_tasks_blocked()
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert calls == ["/2"]


async def test_a_client_that_left_before_its_exchange_began_is_gone_from_the_start(autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_all_tasks_blocked()
        register_of(scope)(lambda: calls.append(scope["path"]))
        calls.append("begun")

    async with serving(app) as server:
        client = server.connect()
        await client.say(get("/1"))
        await client.hang_up()
        await wait_all_tasks_blocked()
    assert calls == ["/1", "begun"]


async def test_a_client_that_leaves_amid_its_body_is_a_disconnect(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bodies: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await read_body(receive))

    async with serving(app) as server:
        client = server.connect()
        await client.say(post(b"abc")[:-1])
        await wait_all_tasks_blocked()
        await client.hang_up()
        await wait_all_tasks_blocked()
    assert bodies == [None]
    assert caplog.records == []


async def test_send_raises_once_the_client_is_gone(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    failures: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await receive()
        with pytest.raises(ClientDisconnected) as failure:
            await reply(send, b"x")
        failures.append(failure.value)
        raise failure.value

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await client.hang_up()
        await wait_all_tasks_blocked()
    assert len(failures) == 1
    assert isinstance(failures[0], OSError)
    assert caplog.records == []


async def test_an_app_that_fails_after_its_client_left_gets_one_line_and_no_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await receive()
        raise ExceptionGroup("gone", [ClientDisconnected("it left")])

    async with serving(app) as server:
        client = server.connect()
        await client.say(get())
        await client.hang_up()
        await wait_all_tasks_blocked()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)


async def test_nobody_needs_to_hear_a_refusal(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as server:
        client = server.connect()
        await client.say(b"FOO\r\n\r\n")
        await client.hang_up()
        server.stopping.set()
        await server.stopped.wait()
    assert caplog.records == []


async def test_what_a_client_pipelines_has_a_bound(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(app, Limits(pipelined_bytes=4096)) as server:
        client, theirs = trio.testing.lockstep_stream_pair()
        server.accept(theirs)
        await client.send_all(get())
        sent = 0
        with trio.move_on_after(5):
            while True:
                await client.send_all(b"x" * 1024)
                sent += 1024
        assert sent <= 3 * 4096
