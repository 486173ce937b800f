"""Reading a response by comparing its head with one that h11 has read: the same as h11 reads, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.cluster.relay.answer import Answer
from trio_mcp.cluster.relay.familiar import MOST_FORMS, FamiliarHeads
from trio_mcp.cluster.relay.outcomes import OwnerLost

DATE = "Fri, 20 Nov 2026 12:00:00 GMT"


def response(body: bytes = b"{}", status: str = "200 OK", *fields: str, date: str = DATE, length: int = -1) -> bytes:
    told = len(body) if length < 0 else length
    lines = [f"HTTP/1.1 {status}", *fields, f"date: {date}", f"content-length: {told}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def by_h11(data: bytes, method: str = "POST") -> tuple[int, dict[bytes, bytes], bytes] | None:
    """None unless `data` is one whole response that leaves its connection usable."""
    answer = Answer(method)
    answer.take(data)
    try:
        head = answer.head()
        if head is None:
            return None
        body, _ = answer.body()
    except OwnerLost:
        return None
    return (head.status, dict(head.fields), body) if answer.leaves_connection_usable else None


def learned(*responses: bytes) -> FamiliarHeads:
    familiar = FamiliarHeads()
    for data in responses:
        answer = Answer("POST")
        answer.take(data)
        head = answer.head()
        assert head is not None
        answer.body()
        if answer.leaves_connection_usable:
            familiar.learn(data, head)
    return familiar


def read(familiar: FamiliarHeads, data: bytes) -> tuple[int, dict[bytes, bytes], bytes] | None:
    whole = familiar.read(data)
    return None if whole is None else (whole.status, dict(whole.fields), whole.body)


def test_of_a_known_form_date_length_and_body_may_differ() -> None:
    familiar = learned(response(b"first", "200 OK", "content-type: application/json"))
    later = response(b"another", "200 OK", "content-type: application/json", date=DATE.replace("12", "13"))
    assert read(familiar, later) == by_h11(later)
    assert read(familiar, later) is not None


def test_another_form_is_not_known() -> None:
    familiar = learned(response(b"", "200 OK", "a: b"))
    for other in (response(b"", "200 OK", "a: c"), response(b"", "404 Not Found", "a: b"), response(b"", "200 OK")):
        assert familiar.read(other) is None


def test_a_response_with_a_byte_missing_or_following_is_for_h11() -> None:
    whole = response(b"body")
    familiar = learned(whole)
    assert familiar.read(whole) is not None
    for other in (whole[:-1], whole + b"x", whole + whole, b"", whole[:20], whole.partition(b"body")[0]):
        assert familiar.read(other) is None


@pytest.mark.parametrize(
    "data",
    [
        response(b"", "204 No Content"),
        response(b"", "304 Not Modified"),
        response(b"{}", "200 OK", "Content-Length: 2"),
        response(b"{}", "200 OK", f"Date: {DATE}"),
        response(b"{}", "200 OK", "connection: keep-alive"),
        response(b"2\r\n{}\r\n0\r\n\r\n", "200 OK", "transfer-encoding: chunked"),
        response(b"{}", "421 Misdirected Request", "trio-mcp-misdirected: a.b"),
        response(b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
        response(b"{}", "200 OK", "x: " + "y" * 2_000),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_what_says_more_of_its_framing_is_read_by_h11_each_time(data: bytes) -> None:
    familiar = learned(data)
    assert familiar.read(data) is None


def test_an_answer_to_head_is_not_taken_for_one_with_a_body() -> None:
    familiar = learned(response(b"body"))
    assert familiar.read(response(b"", length=4)) is None


lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.0 200 OK\r\n",
        b"a: b\r\n", b"content-length: 2\r\n", b"content-length: 3\r\n", b"Content-Length: 2\r\n", b"connection: close\r\n",
        f"date: {DATE}\r\n".encode(), f"date: {DATE}\r\ncontent-length: 2\r\n\r\n".encode(), b"\r\n", b"{}", b"abc",
        b"transfer-encoding: chunked\r\n", b" folded\r\n",
    ]
)  # fmt: skip
responses = st.lists(lines, max_size=6).map(b"".join).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)


@given(st.lists(responses, max_size=4), responses)
def test_whatever_was_learned_it_reads_as_h11_does_or_not_at_all(before: list[bytes], data: bytes) -> None:
    familiar = learned(*(each for each in (*before, response()) if by_h11(each) is not None))
    found = read(familiar, data)
    assert found is None or found == by_h11(data)


def test_forms_are_bounded_and_what_was_forgotten_is_learned_again() -> None:
    many = [response(b"", "200 OK", f"mcp-session-id: {n}") for n in range(MOST_FORMS + 1)]
    familiar = learned(*many)
    assert familiar.read(many[0]) is None
    assert familiar.read(many[-1]) is not None
