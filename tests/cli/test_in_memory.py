"""HTTP exchanges in memory with ASGI apps written by hand."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from trio_mcp.cli.in_memory import running
from trio_mcp.http_client import AnswerCut, HttpClientError

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class App:
    """Answers with the chunks it is given; notes what happened to it."""

    def __init__(self, *chunks: bytes, complete: bool = True, failing: bool = False) -> None:
        self.events: list[str] = []
        self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self._chunks = chunks
        self._complete = complete
        self._failing = failing

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        self.body = (await receive())["body"]
        self.headers = dict(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"b")]})
        try:
            for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self._complete:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except trio.Cancelled:
            self.events.append("cancelled")
            raise

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        self.events.append((await receive())["type"])
        if self._failing:
            return await send({"type": "lifespan.startup.failed", "message": "no database"})
        await send({"type": "lifespan.startup.complete"})
        self.events.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
async def test_a_command_that_fails_shuts_the_app_down_as_one_that_does_not(error: type[BaseException]) -> None:
    app = App(b"one", b"two")
    with pytest.RaisesGroup(error):
        async with running(app, "/mcp") as transport, transport.exchange("POST", []) as exchange:
            await exchange.head()
            raise error
    assert sorted(app.events) == ["cancelled", "lifespan.shutdown", "lifespan.startup"]


async def test_an_exchange_reaches_the_app_and_its_answer_comes_back_chunk_by_chunk() -> None:
    app = App(b"one", b"", b"two")
    async with running(app, "/mcp") as transport, transport.exchange("POST", [("A", "b")], b"{}") as exchange:
        head = await exchange.head()
        assert (head.status, head.headers) == (200, {"x-a": "b"})
        assert [await exchange.receive() for _ in range(3)] == [b"one", b"two", b""]
    assert app.body == b"{}"
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]


async def test_standing_headers_are_sent_with_each_request() -> None:
    app = App()
    async with running(app, "/mcp", [("Authorization", "Bearer x")]) as transport:
        async with transport.exchange("POST", []) as exchange:
            await exchange.head()
    assert app.headers[b"authorization"] == b"Bearer x"


async def test_leaving_an_exchange_cancels_its_handler() -> None:
    app = App(*[b"chunk"] * 100)
    async with running(app, "/mcp") as transport:
        async with transport.exchange("POST", []) as exchange:
            await exchange.head()
        await trio.testing.wait_all_tasks_blocked()
        assert app.events == ["lifespan.startup", "cancelled"]


async def test_an_answer_that_ends_early_is_cut_not_ended() -> None:
    async with running(App(b"one", complete=False), "/mcp") as transport, transport.exchange("POST", []) as exchange:
        await exchange.head()
        assert await exchange.receive() == b"one"
        with pytest.raises(AnswerCut):
            await exchange.receive()


async def test_an_app_that_does_not_start_says_why() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(HttpClientError, match="did not start: no database"), flatten_subgroups=True
    ):
        async with running(App(failing=True), "/mcp"):
            pass
