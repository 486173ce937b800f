"""Which heads become a WebSocket, and how the others are answered."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.frames import TEXT, Heard, close, frame, frames, handshake, text
from tests.transports.listener.harness import RawClient, answers, get, post, reply, serving
from trio_mcp.transports.listener import Limits, Receive, Scope, Send

LIMITS = Limits(websockets=True)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts `mcp` and sends back what it gets; answers HTTP with the type of its scope."""
    if scope["type"] == "http":
        return await reply(send, b"http")
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "mcp" if "mcp" in scope["subprotocols"] else None})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def after_101(heard: bytes) -> list[Heard]:
    """The frames that follow the head of the 101."""
    head, _, rest = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), heard[:200]
    return list(frames(rest))


BAD = {
    "no key": (handshake(Sec_WebSocket_Key=None), 400),
    "an empty key": (handshake(Sec_WebSocket_Key=""), 400),
    "a key of 3 bytes": (handshake(Sec_WebSocket_Key="YWJj"), 400),
    "a key that is not base64": (handshake(Sec_WebSocket_Key="*" * 24), 400),
    "two keys": (handshake(**{"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}), 400),
    "version 8": (handshake(Sec_WebSocket_Version="8"), 426),
    "no version": (handshake(Sec_WebSocket_Version=None), 400),
    "POST": (handshake("POST / HTTP/1.1"), 400),
    "HTTP/1.0": (handshake("GET / HTTP/1.0"), 400),
    "a body": (handshake(Content_Length="2") + b"hi", 400),
    "a chunked body": (handshake(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
}


@pytest.mark.requirement("ws-2")
@pytest.mark.parametrize("case", BAD)
async def test_a_bad_handshake_is_answered_and_the_connection_closed(autojump_clock: MockClock, case: str) -> None:
    data, status = BAD[case]
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(data)
        [answer] = answers(await client.hear_all())
    assert answer.status == status
    assert answer.headers[b"connection"] == b"close"
    assert answer.headers.get(b"sec-websocket-version") == (b"13" if status == 426 else None)


GOOD = {
    "as clients send it": handshake(),
    "other cases and options": handshake(Upgrade="WebSocket", Connection="keep-alive, UPGRADE"),
    "several protocols offered": handshake("GET /?a=b HTTP/1.1", Upgrade="h2c, websocket"),
    "a compression offered": handshake(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
    "headers that h11 would not take": handshake(Host="xn--\x7f".replace("\x7f", "a"), X="\xe9 b"),
    "many headers": handshake(**{f"X{number}": "y" * 100 for number in range(100)}),
}


@pytest.mark.requirement("ws-10")
@pytest.mark.parametrize("case", GOOD)
async def test_a_good_handshake_is_answered_with_101_and_no_extension(autojump_clock: MockClock, case: str) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(GOOD[case])
        head = (await client.hear()).decode().lower().split("\r\n")
        await client.say(text("hello"))
        assert list(frames(await client.hear())) == [Heard(TEXT, b"hello")]
    assert head[0] == "http/1.1 101 switching protocols"
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "sec-websocket-protocol: mcp" in head
    assert not [line for line in head if line.startswith("sec-websocket-extensions")]


@pytest.mark.requirement("ws-8")
async def test_a_frame_in_the_segment_of_the_head_is_answered_at_once(autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(handshake() + text("first") + text("second")[:3])
        assert [each.payload for each in after_101(await client.hear())] == [b"first"]
        await client.say(text("second")[3:])
        assert list(frames(await client.hear())) == [Heard(TEXT, b"second")]


@pytest.mark.requirement("ws-9")
async def test_a_head_that_trickles_is_a_408(autojump_clock: MockClock) -> None:
    async def trickle(client: RawClient) -> None:
        for byte in handshake():
            await client.say(bytes([byte]))
            await trio.sleep(1)

    async with serving(echo, LIMITS) as server, trio.open_nursery() as nursery:
        client = server.connect()
        nursery.start_soon(trickle, client)
        began = trio.current_time()
        heard = await client.hear_all()
        assert trio.current_time() - began == pytest.approx(LIMITS.head_seconds, abs=1 + 2)
        nursery.cancel_scope.cancel("the server has closed")
    assert [answer.status for answer in answers(heard)] == [408]


@pytest.mark.requirement("ws-39")
async def test_without_the_feature_a_handshake_is_the_request_that_it_is(autojump_clock: MockClock) -> None:
    async with serving(echo) as server:
        client = server.connect()
        await client.say(handshake() + get())
        heard = await client.hear()
    assert [answer.body for answer in answers(heard, closed=False)] == [b"http", b"http"]


async def test_a_request_that_asks_for_another_protocol_is_served_as_it_is(autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(get("/", "Connection: Upgrade", "Upgrade: h2c") + get("/", "Upgrade: websocket"))
        await client.say(post(b"x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
        heard = await client.hear()
    assert [answer.body for answer in answers(heard, closed=False)] == [b"http"] * 3


async def test_the_scope_says_what_was_asked(autojump_clock: MockClock) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(
            handshake("GET /a%20b?c HTTP/1.1", Sec_WebSocket_Protocol="x ,mcp,", **{"sec-websocket-protocol": " y"})
        )
        await client.hear()
    [scope] = scopes
    assert (scope["type"], scope["scheme"], scope["path"], scope["query_string"]) == ("websocket", "ws", "/a b", b"c")
    assert scope["subprotocols"] == ["x", "mcp", "y"]
    assert "websocket.http.response" in scope["extensions"]
    assert "method" not in scope
    assert (b"host", b"a") in scope["headers"]


@pytest.mark.parametrize("way", ["close", "response"])
async def test_a_refused_handshake_is_an_ordinary_response_and_the_connection_is_kept(
    autojump_clock: MockClock, way: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            return await reply(send, b"next")
        assert (await receive())["type"] == "websocket.connect"
        if way == "close":
            return await send({"type": "websocket.close"})
        headers = [(b"www-authenticate", b"Bearer")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"{}"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake() + get())
        refused, following = answers(await client.hear(), closed=False)
    assert (refused.status, refused.body) == ((403, b"") if way == "close" else (401, b"{}"))
    assert following.body == b"next"


async def test_an_app_that_does_not_answer_the_handshake_is_a_500(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake())
        assert [answer.status for answer in answers(await client.hear_all())] == [500]
    assert "the app failed" in caplog.text


WRONG: dict[str, list[dict[str, Any]]] = {
    "accept twice": [{"type": "websocket.accept"}, {"type": "websocket.accept"}],
    "a protocol that was not offered": [{"type": "websocket.accept", "subprotocol": "other"}],
    "send before accept": [{"type": "websocket.send", "text": "x"}],
    "a response after accept": [{"type": "websocket.accept"}, {"type": "websocket.http.response.start", "status": 401}],
    "an HTTP message": [{"type": "http.response.start", "status": 200}],
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_app_that_breaks_the_rules_is_told_and_its_client_gets_500_or_1011(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in WRONG[case]:
            await send(message)

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake())
        heard = await client.hear_all()
    if heard.startswith(b"HTTP/1.1 101"):
        assert [each.code for each in after_101(heard)] == [1011]
    else:
        assert [answer.status for answer in answers(heard)] == [500]
    assert "ResponseError" in caplog.text


async def test_a_client_that_leaves_before_the_answer_is_a_disconnect(autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append((await receive())["type"])
        told.append((await receive())["type"])

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake())
        await wait_all_tasks_blocked()
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert told == ["websocket.connect", "websocket.disconnect"]


async def test_what_an_app_that_fails_had_accepted_is_closed_with_1011(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise OverflowError("a bug")

    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake() + frame(TEXT, b"x") + close())
        assert [each.code for each in after_101(await client.hear_all())] == [1011]
    assert "a bug" in caplog.text
