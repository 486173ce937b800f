"""A head that is like the one before it is not parsed again: what comes of that is what the parser would have said."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import asdict

from trio_mcp.transports.http.exchange import read_head
from trio_mcp.transports.listener.head import Head, HeadReader, Refusal

FIRST = (
    b"POST /mcp?x=1 HTTP/1.1\r\nHost: localhost\r\nTrio-Mcp-Hop: h\r\nContent-Type: application/json\r\n"
    b"Content-Length: 42\r\nAccept: */*\r\n\r\n"
)

LIKE_IT = {
    "the same": FIRST,
    "a longer body": FIRST.replace(b": 42", b": 4242"),
    "a shorter body": FIRST.replace(b": 42", b": 7"),
    "no body": FIRST.replace(b": 42", b": 0"),
    "zeros in front": FIRST.replace(b": 42", b": 00042"),
}
OTHERS = {
    "a length in another case": FIRST.replace(b"Content-Length", b"content-length"),
    "a length behind more space": FIRST.replace(b": 42", b":  42"),
    "a length before a space": FIRST.replace(b": 42\r", b": 42 \r"),
    "another host": FIRST.replace(b"localhost", b"localhosT"),
    "another target": FIRST.replace(b"x=1", b"x=2"),
    "another header behind": FIRST.replace(b"*/*\r\n", b"*/*\r\nX: y\r\n"),
    "another value behind": FIRST.replace(b"*/*", b"a/b"),
    "another header before": FIRST.replace(b"Host:", b"X: y\r\nHost:"),
    "a chunked body": FIRST.replace(b"Content-Length: 42", b"Transfer-Encoding: chunked"),
    "a length of too many digits": FIRST.replace(b": 42", b": 0000000042"),
    "a length beyond all bounds": FIRST.replace(b": 42", b": 99999999999999999999999"),
    "no length": FIRST.replace(b"Content-Length: 42\r\n", b""),
    "an empty length": FIRST.replace(b": 42", b": "),
    "a negative length": FIRST.replace(b": 42", b": -42"),
    "a signed length": FIRST.replace(b": 42", b": +42"),
    "a hexadecimal length": FIRST.replace(b": 42", b": 0x42"),
    "a length with an underscore": FIRST.replace(b": 42", b": 4_2"),
    "digits of another script": FIRST.replace(b": 42", ": 4٢".encode()),
    "two lengths": FIRST.replace(b": 42\r\n", b": 42\r\nContent-Length: 42\r\n"),
    "a list of lengths": FIRST.replace(b": 42", b": 42, 42"),
    "a bare carriage return": FIRST.replace(b": 42\r\n", b": 42\r"),
    "a bare line feed": FIRST.replace(b": 42\r\n", b": 42\n"),
    "a body that looks like the rest": FIRST.replace(b"\r\nAccept", b"\r\n\r\nAccept"),
    "its first half": FIRST[: len(FIRST) // 2],
    "its beginning up to the digits": FIRST[: FIRST.index(b"42")],
    "all but the last byte": FIRST[:-1],
    "nothing": b"",
}


def parsed(data: bytes) -> tuple[dict[str, Any] | str | None, bytes]:
    """What the parser says: the parts of the head, why it is refused, or None for one that is not complete; and what follows it."""
    reader = HeadReader(64 * 1024)
    try:
        head = reader.feed(data)
    except Refusal as refusal:
        return refusal.reason, b""
    return (None if head is None else parts(head)), reader.rest


def parts(head: Head) -> dict[str, Any]:
    return {name: value for name, value in asdict(head).items() if name not in ("known", "_around")}


def first() -> Head:
    head = HeadReader(64 * 1024).feed(FIRST)
    assert head is not None
    head.known = read_head(head.method, head.path, head.target, head.headers)
    return head


@pytest.mark.parametrize("rest", [b"", b"{}", FIRST], ids=["alone", "with a body", "with another request"])
@pytest.mark.parametrize("data", LIKE_IT.values(), ids=LIKE_IT)
def test_a_head_that_differs_in_its_length_alone_is_known(data: bytes, rest: bytes) -> None:
    again = first().again(data + rest)
    assert again is not None
    found, behind = parsed(data + rest)
    assert parts(again) == found
    assert (data + rest)[len(again.raw) :] == behind
    known, anew = again.known, read_head(again.method, again.path, again.target, again.headers)
    assert known is not None
    assert asdict(known) == asdict(anew)


@pytest.mark.parametrize("rest", [b"", b"{}", FIRST], ids=["alone", "with a body", "with another request"])
@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_any_other_head_goes_to_the_parser(data: bytes, rest: bytes) -> None:
    if (data + rest).startswith(FIRST):
        assert (data, rest) == (b"", FIRST)
        return
    assert first().again(data + rest) is None


def test_a_head_that_follows_a_known_one_is_compared_with_that() -> None:
    head = first()
    for digits in (b"7", b"123", b"42"):
        data = FIRST.replace(b": 42", b": " + digits)
        again = head.again(data + b"{}")
        assert again is not None
        assert again.raw == data
        assert again.content_length == int(digits)
        head = again


def test_without_a_length_only_an_equal_head_is_known() -> None:
    data = b"GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n"
    head = HeadReader(1024).feed(data)
    assert head is not None
    assert head.again(data + b"GET") is head
    assert head.again(data[:-2] + b"Content-Length: 1\r\n\r\n") is None
