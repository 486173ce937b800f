"""What the app sends, and how it looks on the wire."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.harness import Answer, answers, echo, get, post, read_body, reply, serving
from trio_mcp.transports.listener import ASGIApp, Message, Receive, Scope, Send


def sending(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def heard_from(app: ASGIApp, request: bytes) -> bytes:
    async with serving(app) as server:
        client = server.connect()
        await client.say(request)
        return await client.hear_all()


async def answer_of(app: ASGIApp, request: bytes, methods: Sequence[str] = ()) -> Answer:
    (answer,) = answers(await heard_from(app, request), methods)
    return answer


async def test_a_whole_body_gets_its_length(autojump_clock: MockClock) -> None:
    answer = await answer_of(sending(start(), body(b"abc")), get())
    assert (answer.headers[b"content-length"], answer.body) == (b"3", b"abc")
    assert b"date" in answer.headers


async def test_a_body_in_pieces_is_chunked(autojump_clock: MockClock) -> None:
    pieces = sending(start(), body(b"ab", True), body(b"", True), body(b"c", True), body(b""))
    heard = await heard_from(pieces, get())
    assert heard.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert answers(heard)[0].body == b"abc"


async def test_a_body_in_pieces_of_a_told_length_is_not_chunked(autojump_clock: MockClock) -> None:
    answer = await answer_of(sending(start(200, (b"Content-Length", b"3")), body(b"ab", True), body(b"c")), get())
    assert answer.body == b"abc"
    assert b"transfer-encoding" not in answer.headers


async def test_http_1_0_gets_the_close_as_the_end_of_a_streamed_body(autojump_clock: MockClock) -> None:
    request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answer = await answer_of(sending(start(), body(b"ab", True), body(b"c")), request)
    assert answer.headers[b"connection"] == b"close"
    assert answer.body == b"abc"


async def test_http_1_0_is_told_that_its_connection_is_kept(autojump_clock: MockClock) -> None:
    answer = await answer_of(echo, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.headers[b"connection"] == b"keep-alive"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status: int, autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(status), body(b"abc")), get() + get())
    assert [(answer.status, answer.body) for answer in answers(heard)] == [(status, b"")] * 2
    assert b"content-length" not in heard


async def test_head_tells_the_length_of_a_body_it_leaves_out(autojump_clock: MockClock) -> None:
    request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    heard = await heard_from(sending(start(), body(b"abc")), request * 2)
    found = answers(heard, ["HEAD", "HEAD"])
    assert [(answer.headers[b"content-length"], answer.body) for answer in found] == [(b"3", b"")] * 2


async def test_head_without_a_body_tells_no_length_that_get_would_not_have(autojump_clock: MockClock) -> None:
    request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    found = answers(await heard_from(sending(start(), body(b"")), request * 2), ["HEAD", "HEAD"])
    assert [(answer.status, b"content-length" in answer.headers) for answer in found] == [(200, False)] * 2


async def test_head_of_a_stream_has_no_chunks(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(), body(b"abc", True), body(b"d")), b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert heard.endswith(b"\r\n\r\n")
    assert b"abc" not in heard


async def test_an_app_may_close_the_connection(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(200, (b"connection", b"close")), body(b"")), get() + get())
    (answer,) = answers(heard)
    assert answer.headers[b"connection"] == b"close"


async def test_an_app_may_date_its_answer(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(200, (b"date", b"x")), body(b"")), get())
    assert heard.lower().count(b"date:") == 1


async def test_an_app_cannot_frame_its_answer(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(200, (b"Transfer-Encoding", b"gzip")), body(b"abc")), get())
    assert b"gzip" not in heard


async def test_a_status_without_a_name_is_sent(autojump_clock: MockClock) -> None:
    assert (await answer_of(sending(start(299), body(b"x")), get())).status == 299


BROKEN = {
    "a header that would split the response": [start(200, (b"x", b"a\r\nSet-Cookie: b")), body(b"")],
    "a header with a bare LF": [start(200, (b"x", b"a\nb")), body(b"")],
    "a header name with a space": [start(200, (b"x y", b"a")), body(b"")],
    "a header without a name": [start(200, (b"", b"a")), body(b"")],
    "an invalid Content-Length": [start(200, (b"content-length", b"-1")), body(b"")],
    "an informational status": [start(100), body(b"")],
    "a body before its start": [body(b"")],
    "two starts": [start(), start()],
    "a message nobody knows": [{"type": "http.response.push"}],
    "a whole body shorter than its length": [start(200, (b"content-length", b"3")), body(b"ab")],
    "a whole body longer than its length": [start(200, (b"content-length", b"3")), body(b"abcd")],
    "a start alone": [start()],
    "nothing": [],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN.keys())
async def test_an_app_that_breaks_the_rules_before_its_head_is_a_500_and_one_error_in_the_log(
    messages: list[Message], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await answer_of(sending(*messages), get() + get())
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert answer.headers[b"connection"] == b"close"
    (record,) = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert record.exc_info is not None


BROKEN_LATER = {
    "a body shorter than its length": [start(200, (b"content-length", b"3")), body(b"a", True), body(b"b")],
    "a body longer than its length": [start(200, (b"content-length", b"3")), body(b"a", True), body(b"bcd")],
    "no end": [start(), body(b"a", True)],
}


@pytest.mark.parametrize("messages", BROKEN_LATER.values(), ids=BROKEN_LATER.keys())
async def test_an_app_that_breaks_the_rules_later_never_ends_cleanly(
    messages: list[Message], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard = await heard_from(sending(*messages), get())
    head, _, rest = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest in (b"a", b"1\r\na\r\n")
    (record,) = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert record.exc_info is not None


async def test_an_answer_cannot_go_on_after_its_end(autojump_clock: MockClock) -> None:
    failures: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"abc")
        with pytest.raises(RuntimeError) as failure:
            await send(body(b"more"))
        failures.append(str(failure.value))

    answer = await answer_of(app, get())
    assert answer.body == b"abc"
    assert len(failures) == 1


async def test_a_crash_before_the_head_is_a_500(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        raise LookupError("a secret")

    heard = await heard_from(app, get())
    assert answers(heard)[0].status == 500
    assert b"secret" not in heard
    assert "a secret" in caplog.text


async def test_the_500_of_a_head_has_no_body(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(), b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answers(heard, ["HEAD"])[0].status == 500
    assert heard.endswith(b"\r\n\r\n")


async def test_a_crash_costs_only_its_own_connection(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            raise ExceptionGroup("several", [LookupError("one"), LookupError("two")])
        await reply(send, b"fine")

    async with serving(app) as server:
        other = server.connect()
        await other.say(get())
        await other.hear()
        crashing = server.connect()
        await crashing.say(get("/crash"))
        assert answers(await crashing.hear_all())[0].status == 500
        await other.say(get())
        assert answers(await other.hear(), closed=False)[0].body == b"fine"


async def test_continue_is_sent_when_the_app_wants_the_body(autojump_clock: MockClock) -> None:
    request = post(b"abc", "Expect: 100-continue")
    async with serving(echo) as server:
        client = server.connect()
        await client.say(request[:-3])
        assert await client.hear() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"abc")
        assert answers(await client.hear(), closed=False)[0].body == b"POST / abc"


async def test_continue_is_not_sent_when_the_body_has_come(autojump_clock: MockClock) -> None:
    heard = await heard_from(echo, post(b"abc", "Expect: 100-continue"))
    assert heard.startswith(b"HTTP/1.1 200 ")


async def test_continue_is_sent_again_for_a_head_that_is_sent_again(autojump_clock: MockClock) -> None:
    head = post(b"abc", "Expect: 100-continue")[:-3]
    async with serving(echo) as server:
        client = server.connect()
        for _ in range(2):
            await client.say(head)
            assert await client.hear() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.say(b"abc")
            assert answers(await client.hear(), closed=False)[0].body == b"POST / abc"


async def test_continue_is_not_sent_within_a_response(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"begun", True))
        await read_body(receive)
        await send(body(b""))

    async with serving(app) as server:
        client = server.connect()
        await client.say(post(b"abc", "Expect: 100-continue")[:-3])
        await wait_all_tasks_blocked()
        await client.say(b"abc")
        assert answers(await client.hear_all())[0].body == b"begun"


async def test_continue_is_not_sent_when_the_app_refuses_unread(autojump_clock: MockClock) -> None:
    request = post(b"abc", "Expect: 100-continue")[:-3]
    answer = await answer_of(sending(start(403), body(b"no")), request)
    assert (answer.status, answer.headers[b"connection"]) == (403, b"close")


async def test_a_body_that_the_app_leaves_unread_is_not_the_next_request(autojump_clock: MockClock) -> None:
    smuggled = get("/smuggled")
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await reply(send, b"no", 403)

    async with serving(app) as server:
        client = server.connect()
        await client.say(post(smuggled)[: -len(smuggled)])
        heard = await client.hear()
        await client.say(smuggled)
        heard += await client.hear_all()
    assert [answer.status for answer in answers(heard)] == [403]
    assert asked == ["/"]


async def test_an_unread_body_that_has_come_keeps_the_connection(autojump_clock: MockClock) -> None:
    heard = await heard_from(sending(start(403), body(b"no")), post(b"abc") + get())
    assert [answer.status for answer in answers(heard)] == [403, 403]


async def test_the_scope_tells_the_request(autojump_clock: MockClock) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await reply(send, b"")

    await heard_from(app, get("/a%20b%2Fc?d=%20", "X-Y:  z "))
    (scope,) = scopes
    assert scope["type"] == "http"
    assert scope["http_version"] == "1.1"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/c", b"/a%20b%2Fc", b"d=%20")
    assert (scope["root_path"], scope["scheme"], scope["method"]) == ("", "http", "GET")
    assert scope["headers"] == [(b"host", b"a"), (b"x-y", b"z")]
    assert (scope["client"], scope["server"]) == (None, None)


async def test_pipelined_requests_run_one_after_the_other(autojump_clock: MockClock) -> None:
    running: list[str] = []
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        running.append(scope["path"])
        await go.wait()
        await reply(send, scope["path"].encode())

    async with serving(app) as server:
        client = server.connect()
        await client.say(b"".join(get(f"/{number}") for number in range(5)))
        await trio.testing.wait_all_tasks_blocked()
        assert running == ["/0"]
        go.set()
        found = answers(await client.hear_all())
    assert [answer.body for answer in found] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


async def test_what_an_app_sets_does_not_reach_the_next_request_of_the_connection(autojump_clock: MockClock) -> None:
    import contextvars

    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        before = user.get()
        user.set(scope["path"])
        await reply(send, before.encode())

    async with serving(app) as server:
        client = server.connect()
        await client.say(get("/a") + get("/b"))
        heard = await client.hear()
        await client.say(get("/c"))
        heard += await client.hear_all()
    assert [answer.body for answer in answers(heard)] == [b"nobody"] * 3
