"""Requests to authorization servers: over real connections, and what is checked of every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from trio_mcp.auth.errors import FetchError
from trio_mcp.auth.fetching import MAX_ANSWER_BYTES, Response, fetch_within, http_fetch


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An HTTP server on loopback that answers everything alike, or (None) never; gives its URL and what it was sent."""
    received: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            received.append(await stream.receive_some())
            if answer is None:
                await trio.sleep_forever()
            else:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/keys?a=1", received
        nursery.cancel_scope.cancel()


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.mark.sockets
async def test_an_answer_has_status_headers_and_body() -> None:
    async with server(http(b"{}", headers="Cache-Control: max-age=60\r\n")) as (url, received):
        response = await fetch_within(http_fetch, "POST", url, [("Accept", "application/json")], b"token=t")
        assert (response.status, response.body, response.headers["cache-control"]) == (200, b"{}", "max-age=60")
        assert received[0].startswith(b"POST /keys?a=1 HTTP/1.1\r\n")
        assert b"\r\nAccept: application/json\r\n" in received[0]
        assert b"".join(received).endswith(b"\r\n\r\ntoken=t")


@pytest.mark.sockets
async def test_a_redirect_is_not_followed() -> None:
    async with server(http(b"", "301 Moved", "Location: http://127.0.0.1:1/\r\n")) as (url, received):
        assert (await fetch_within(http_fetch, "GET", url)).status == 301
        assert len(received) == 1


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (http(b"x" * (MAX_ANSWER_BYTES + 1)), "longer than"),
        (http(b"x" * 10)[:-1], "closed the connection in the middle of its answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"", "closed the connection before it answered"),
    ],
)
async def test_an_answer_that_is_too_long_or_broken_is_an_error(answer: bytes, complaint: str) -> None:
    async with server(answer) as (url, _):
        with pytest.raises(FetchError, match=complaint):
            await fetch_within(http_fetch, "GET", url)


@pytest.mark.sockets
async def test_nobody_there_is_an_error() -> None:
    async with server(b"") as (url, _):
        pass
    with pytest.raises(FetchError, match="cannot reach"):
        await fetch_within(http_fetch, "GET", url)


async def test_a_server_that_says_nothing_has_five_seconds(autojump_clock: object) -> None:
    async def hang(*_: object) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    began = trio.current_time()
    with pytest.raises(FetchError, match=r"login\.example did not answer within 5 s"):
        await fetch_within(hang, "GET", "https://login.example/keys")
    assert trio.current_time() - began == 5


async def test_an_answer_of_a_user_s_own_client_is_bounded_too() -> None:
    async def long(*_: object) -> Response:
        return Response(200, b"x" * (MAX_ANSWER_BYTES + 1))

    with pytest.raises(FetchError, match="more than 256 KiB"):
        await fetch_within(long, "GET", "https://login.example/keys")


async def test_what_a_user_s_own_client_raises_means_that_there_is_no_answer() -> None:
    async def broken(*_: object) -> Response:
        raise LookupError("pool is closed")

    with pytest.raises(FetchError, match="LookupError: pool is closed"):
        await fetch_within(broken, "GET", "https://login.example/keys")
