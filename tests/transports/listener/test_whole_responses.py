"""A response that leaves at once: its header lines are remembered where they come as a tuple, and are the same as those of a list."""

from __future__ import annotations

import pytest

from trio_mcp.transports.listener.head import HeadReader
from trio_mcp.transports.listener.response import Response, ResponseError

HEAD = HeadReader(1024).feed(b"POST /mcp HTTP/1.1\r\nHost: a\r\n\r\n")
JSON = (b"content-type", b"application/json")


def sent(headers: list[tuple[bytes, bytes]] | tuple[tuple[bytes, bytes], ...]) -> bytes:
    assert HEAD is not None
    said = Response(HEAD, keep_alive=True).whole(200, headers, b"{}")
    return b"\r\n".join(line for line in said.split(b"\r\n") if not line.startswith(b"date: "))


@pytest.mark.parametrize("headers", [[], [JSON], [JSON, (b"x-a", b"1")], [JSON, (b"x-a", b"2")]])
def test_a_tuple_of_headers_is_sent_as_a_list_of_them_each_time(headers: list[tuple[bytes, bytes]]) -> None:
    assert sent(tuple(headers)) == sent(headers) == sent(tuple(headers))


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-b: 2"), (b"x a", b"1"), (b"x-a", b"\0")])
def test_what_http_forbids_is_refused_each_time(field: tuple[bytes, bytes]) -> None:
    for _ in range(2):
        with pytest.raises(ResponseError):
            sent((JSON, field))
