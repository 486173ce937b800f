"""Whole responses over ASGI servers that are not ours."""

from __future__ import annotations

import pytest

from trio_mcp.transports.asgi import Message
from trio_mcp.transports.http.exchange import AsgiCarrier


@pytest.mark.parametrize(("status", "length"), [(200, b"2"), (202, b"0"), (204, None), (304, None)])
async def test_a_whole_response_has_its_length_unless_its_status_has_no_body(status: int, length: bytes | None) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    body = b"{}" if status == 200 else b""
    await AsgiCarrier({"extensions": {}}, receive, send).reply(status, [(b"x", b"y")], body)
    start, rest = sent
    assert (start["status"], dict(start["headers"]).get(b"content-length")) == (status, length)
    assert dict(start["headers"])[b"x"] == b"y"
    assert rest["body"] == body
