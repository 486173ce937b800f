"""The listener that the browser comes back to."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from trio_mcp.cli.login.callback import Callback, callback
from trio_mcp.cli.login.discovery import LoginError

pytestmark = pytest.mark.sockets


def read(query: str) -> str | None:
    """As `read_callback`: a code, an answer that is not ours, a refusal."""
    if query == "refused":
        raise LoginError("the <server> refused")
    return query or None


async def browser(listener: Callback, request: bytes) -> bytes:
    port = int(listener.uri.partition("127.0.0.1:")[2].partition("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        answer = b""
        with suppress(trio.BrokenResourceError):  # a listener that leaves bytes unread resets the connection
            while data := await stream.receive_some():
                answer += data
        return answer


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def answered(requests: list[bytes]) -> tuple[list[bytes], str]:
    """The answers to requests, and the code that came of them."""
    async with callback() as listener, trio.open_nursery() as nursery:
        codes = list[str]()

        async def wait() -> None:
            codes.append(await listener.code(read))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        answers = [await browser(listener, request) for request in requests]
    return answers, codes[0]


async def test_the_first_answer_counts_and_others_do_not_disturb() -> None:
    strange = [get("/favicon.ico"), get("/callback"), b"POST /callback?a HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
    answers, code = await answered([*strange, get("/callback?the-code")])
    assert code == "the-code"
    assert [answer.split(b" ")[1] for answer in answers] == [b"404", b"400", b"404", b"404", b"200"]
    assert b"no-store" in answers[-1]
    assert b"no-referrer" in answers[-1]


async def test_a_refusal_ends_the_wait_and_is_shown_escaped() -> None:
    async with callback() as listener, trio.open_nursery() as nursery:
        errors = list[str]()

        async def wait() -> None:
            with pytest.raises(LoginError) as caught:
                await listener.code(read)
            errors.append(str(caught.value))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        page = await browser(listener, get("/callback?refused"))
    assert errors == ["the <server> refused"]
    assert b"&lt;server&gt;" in page


async def test_a_head_without_end_is_cut() -> None:
    _, code = await answered([b"GET /" + b"a" * 20_000, get("/callback?c")])
    assert code == "c"


async def test_it_listens_on_loopback_alone() -> None:
    async with callback() as listener:
        assert listener.uri.startswith("http://127.0.0.1:")
        assert listener.uri.endswith("/callback")
