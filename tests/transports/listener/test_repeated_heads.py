"""A head that comes again on a connection, byte for byte, is not read again; what it means stays the same."""

from __future__ import annotations

import json

from tests.transports.listener.harness import answers, serving
from trio_mcp.transports.listener import Limits, Receive, Scope, Send


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was told, and spoils the headers it was given."""
    message = await receive()
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    scope["headers"].append((b"x-mine", b"1"))
    said = {"path": scope["path"], "body": message["body"].decode(), "headers": headers}
    body = json.dumps(said).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def post(path: str, body: bytes, more: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (path.encode(), more, len(body)) + body


async def said(*requests: bytes) -> list[dict[str, object]]:
    async with serving(tell) as server:
        client = server.connect()
        heard = b""
        for request in requests:
            await client.say(request)
            heard += await client.hear()
        found = answers(heard, ["POST"] * len(requests), closed=False)
        return [json.loads(answer.body) for answer in found]


async def test_the_same_head_with_another_body_is_another_request() -> None:
    first, second = await said(post("/a", b"one"), post("/a", b"two"))
    assert (first["body"], second["body"]) == ("one", "two")
    assert first["headers"] == second["headers"]


async def test_a_head_that_only_begins_like_the_last_one_is_read_for_itself() -> None:
    _, second, third = await said(post("/a", b"one"), post("/ab", b"two"), post("/a", b"three", b"X-New: 1\r\n"))
    assert (second["path"], second["body"]) == ("/ab", "two")
    assert ["x-new", "1"] in third["headers"]  # type: ignore[operator]


async def test_pipelined_repetitions_are_answered_in_order() -> None:
    async with serving(tell) as server:
        client = server.connect()
        await client.say(b"".join(post("/a", b"%d" % number) for number in range(5)))
        found = answers(await client.hear(), ["POST"] * 5, closed=False)
    assert [json.loads(answer.body)["body"] for answer in found] == ["0", "1", "2", "3", "4"]


async def test_a_head_too_long_to_be_remembered_is_served_as_well() -> None:
    long = b"X-Long: " + b"x" * 3000 + b"\r\n"
    first, second = await said(post("/a", b"one", long), post("/a", b"two", long))
    assert (first["body"], second["body"]) == ("one", "two")


async def test_the_limit_on_bodies_holds_for_a_repeated_head() -> None:
    async with serving(tell, Limits(body_bytes=2)) as server:
        client = server.connect()
        await client.say(post("/a", b"ok"))
        await client.hear()
        await client.say(post("/a", b"too long"))
        (answer,) = answers(await client.hear_all(), ["POST"])
    assert answer.status == 413
