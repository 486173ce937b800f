"""`asgi_client` shows an app what a server would, one chunk at a time."""

import pytest
import trio

from trio_mcp.testing import Disconnected, asgi_client
from trio_mcp.transports.asgi import Receive, Scope, Send


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Kind", b"test")]})


async def test_the_head_and_each_chunk_are_seen_while_the_app_runs() -> None:
    go_on = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with asgi_client(app) as client:
        exchange = client.start("GET", "/")
        assert await exchange.head() == 200
        assert exchange.headers == {"x-kind": "test"}
        assert await exchange.chunk() == b"one"
        assert not exchange.finished.is_set()
        go_on.set()
        assert await exchange.chunk() == b"two"
        assert await exchange.chunk() is None


async def test_a_client_that_left_is_told_by_receive_and_by_send() -> None:
    told = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"hello"
        assert (await receive())["type"] == "http.disconnect"
        with pytest.raises(Disconnected):
            await start(send)
        told.set()

    async with asgi_client(app) as client:
        client.start("POST", "/", body=b"hello").disconnect()
        with trio.fail_after(20):
            await told.wait()


async def test_events_come_without_comments_and_messages_without_priming_events() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for part in (b": alive\n\n", b"id: 1\ndata: \n\nid: 2\nda", b'ta: {"a":1}\n\n'):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with asgi_client(app) as client:
        events, messages = client.start("GET", "/"), client.start("GET", "/")
        assert await events.event() == {"id": "1", "data": ""}
        assert await events.event() == {"id": "2", "data": '{"a":1}'}
        assert await events.event() is None
        assert await messages.messages() == [{"a": 1}]


async def test_an_app_that_ends_without_a_response_fails_the_test_instead_of_hanging_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.lowlevel.checkpoint()

    async with asgi_client(app) as client:
        with pytest.raises(AssertionError, match="without a response"):
            await client.start("GET", "/").head()


async def test_an_app_that_crashes_fails_the_test() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with asgi_client(app) as client:
            await client.start("GET", "/").finished.wait()
            await trio.sleep_forever()
