"""Responses of peers, whatever they send: read as h11 reads them, or refused; h11 is the oracle."""

from __future__ import annotations

from dataclasses import dataclass

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cluster.peers import ok
from trio_mcp.cluster.peer.outcomes import OwnerLost
from trio_mcp.cluster.peer.response import HEAD_BYTES, WHOLE_BODY_BYTES, ResponseParser, _familiar, read_whole

HELLO = ok(b"hello")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Read:
    """What was read of a response."""

    status: int
    body: bytes
    ended: bool
    usable: bool
    """The connection may serve another request."""


def read(said: bytes, method: str = "POST", *, piece: int = 1 << 20, closes: bool = False) -> Read | None:
    """By us, from pieces of that size; None for what is no response, or none whose head is whole."""
    parser, body = ResponseParser(method), b""
    try:
        for at in range(0, len(said), piece):
            parser.take(said[at : at + piece])
            body += parser.body()[0]
        if closes:
            parser.take(b"")
    except OwnerLost:
        return None
    more, ended = parser.body()
    head = parser.head()
    return None if head is None else Read(head.status, body + more, ended, parser.leaves_connection_usable)


def by_h11(said: bytes, method: str = "POST", *, closes: bool = False) -> Read | None:
    """The same by h11."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "")]))
    connection.send(h11.EndOfMessage())
    if said:
        connection.receive_data(said)
    if closes:
        connection.receive_data(b"")
    status, body, ended = 0, b"", False
    try:
        while not ended:
            match connection.next_event():
                case h11.Response(status_code=code):
                    status = code
                case h11.Data(data=data):
                    body += bytes(data)
                case h11.EndOfMessage():
                    ended = True
                case h11.NEED_DATA:
                    break
                case h11.ConnectionClosed():
                    return None
    except h11.RemoteProtocolError:
        return None
    usable = ended and connection.their_state is h11.DONE and connection.trailing_data == (b"", False)
    return Read(status, body, ended, usable) if status else None


WHOLE = {
    "a length": HELLO,
    "no body": ok(b""),
    "chunks": CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "no chunk": CHUNKED + b"0\r\n\r\n",
    "informational ones in front": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HELLO,
    "chunks and a length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "the end announced": ok(b"hello", "Connection: x, Close"),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    "204": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "any header": ok(b"hello", "X-Y_z!: \t a\xe9 b \t", "Empty:", "Connection: a", "Connection: b"),
}


@pytest.mark.parametrize("said", WHOLE.values(), ids=WHOLE.keys())
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("closes", [False, True], ids=["", "then the end"])
def test_what_http_allows_is_read_as_h11_reads_it_however_it_is_cut(said: bytes, piece: int, closes: bool) -> None:
    found = read(said, piece=piece, closes=closes)
    assert found is not None
    assert found == by_h11(said, closes=closes)


@pytest.mark.parametrize("said", WHOLE.values(), ids=WHOLE.keys())
def test_the_answer_to_head_has_no_body(said: bytes) -> None:
    head = said[: said.rindex(b"\r\n\r\n") + 4] if b"100 Continue" in said else said[: said.index(b"\r\n\r\n") + 4]
    assert read(head, "HEAD") == by_h11(head, "HEAD")
    assert read(head, "HEAD") is not None


@pytest.mark.parametrize("said", WHOLE.values(), ids=WHOLE.keys())
@pytest.mark.parametrize("rest", [b"x", b"\n", b"\r\n", b"\r\n\r\n", b"\n\r\n\r\n", b"\r", ok(b"abc"), b"0\r\n\r\n"])
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_what_follows_a_response_is_no_part_of_it_and_ends_the_use_of_its_connection(
    said: bytes, rest: bytes, piece: int
) -> None:
    found = read(said + rest, piece=piece)
    assert found == by_h11(said + rest)
    assert found is not None
    assert not found.usable


REFUSED = {
    "a folded header": ok(b"hello", "A: b", " c"),
    "two lengths": ok(b"hello", "Content-Length: 6"),
    "the same length twice": ok(b"hello", "Content-Length: 5"),
    "lengths in one": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "an empty length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "a length of hex": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "chunks and two lengths": CHUNKED[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks and no number": CHUNKED[:-2] + b"Content-Length: x\r\n\r\n0\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "gzip, then chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a size that is no number": CHUNKED + b"g\r\nhello\r\n0\r\n\r\n",
    "a signed size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a huge size": CHUNKED + b"1" + b"0" * 30 + b"\r\nhello",
    "a longer chunk than told": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "a bare line feed": HELLO.replace(b"\r\n", b"\n"),
    "a bare carriage return": ok(b"hello", "A: b\rc"),
    "a zero byte": ok(b"hello", "A: b\0c"),
    "white space before a colon": ok(b"hello", "A : b"),
    "white space in a name": ok(b"hello", "A b: c"),
    "no name": ok(b"hello", ": c"),
    "no colon": ok(b"hello", "hello"),
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a status below 100": HELLO.replace(b"200", b"099"),
    "a short status": HELLO.replace(b"200", b"20"),
    "a long status": HELLO.replace(b"200", b"2000"),
    "another version": HELLO.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "another protocol": HELLO.replace(b"HTTP/1.1", b"RTSP/1.0"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a line in front": b"\r\n" + HELLO,
    "lines in front": b"\r\n\r\n" + HELLO,
    "a reason with a zero byte": HELLO.replace(b"OK", b"O\0"),
    "a request": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_what_is_no_response_is_refused(said: bytes, piece: int) -> None:
    assert read(said, piece=piece, closes=True) is None


@pytest.mark.parametrize("said", WHOLE.values(), ids=WHOLE.keys())
def test_an_end_before_the_responses_own_is_none(said: bytes) -> None:
    for at in range(len(said)):
        ended = read(said[:at], closes=True)
        assert ended == by_h11(said[:at], closes=True), said[:at]


# Bounds.


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * (HEAD_BYTES // 27 + 2),
        b"HTTP/1.1 102 Processing\r\n\r\n" * (HEAD_BYTES // 27) + HELLO,
        CHUNKED + b"1\r\nx\r\n2;" + b"x" * (3 * HEAD_BYTES),
        CHUNKED + b"0\r\n" + b"X: y\r\n" * (HEAD_BYTES // 2),
    ],
    ids=["endless head", "large head", "informational ones", "too many of them", "endless extension", "trailers"],
)
@pytest.mark.parametrize("piece", [999, 1 << 16])
def test_what_is_no_body_is_bounded(said: bytes, piece: int) -> None:
    parser = ResponseParser("POST")
    with pytest.raises(OwnerLost, match="over"):
        for at in range(0, len(said), piece):
            parser.take(said[at : at + piece])
        parser.take(b"\r\n")


def test_a_body_is_not() -> None:
    large = b"x" * (10 * HEAD_BYTES)
    for said in (ok(large), CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)):
        found = read(said, piece=10_000)
        assert found is not None
        assert (found.body, found.usable) == (large, True)


def test_many_chunks_are_as_good_as_one() -> None:
    said = CHUNKED + b"1\r\nx\r\n" * HEAD_BYTES + b"0\r\n\r\n"
    assert read(said, piece=100) == Read(200, b"x" * HEAD_BYTES, True, True)


# What a head says.


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (HELLO, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WHOLE_BODY_BYTES, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (WHOLE_BODY_BYTES + 1), False),
        (CHUNKED, False),
    ],
)
def test_a_body_is_short_by_its_length(said: bytes, short: bool) -> None:
    parser = ResponseParser("POST")
    parser.take(said)
    head = parser.head()
    assert head is not None
    assert head.is_short is short


LIKE_THE_ONE_BEFORE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: "


LENGTHS = [
    b"5",
    b"0",
    b"007",
    b"6",
    b"65537",
    b"",
    b"+5",
    b" 5",
    b"5 ",
    b"5x",
    b"9" * 18,
    b"9" * 19,
    b"9" * 40,
    b"5\r\nx: y",
    b"5\r\nconnection: close",
    b"5\r\ncontent-length: 5",
    b"5\r\ncontent-length: 6",
    b"5\r\ntransfer-encoding: chunked",
]


@pytest.mark.parametrize("rest", LENGTHS)
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_head_like_the_one_before_is_read_as_if_it_were_the_first(rest: bytes, method: str) -> None:
    before = LIKE_THE_ONE_BEFORE + b"5\r\n\r\nhello"
    assert read(before) == read(before) == by_h11(before)
    said = LIKE_THE_ONE_BEFORE + rest + b"\r\n\r\nhello"
    again, first = ResponseParser(method), ResponseParser(method)
    found = read(said, method)
    if found is not None:
        again.take(said)
    _familiar.clear()
    assert found == read(said, method)
    if found is not None:
        _familiar.clear()
        first.take(said)
        assert again.head() == first.head()


@pytest.mark.parametrize("rest", LENGTHS)
@pytest.mark.parametrize("body", [b"hello", b"hell", b"hello ", b"", b"hello" + HELLO])
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_response_that_is_read_as_a_whole_is_read_as_any_other(rest: bytes, body: bytes, method: str) -> None:
    read(LIKE_THE_ONE_BEFORE + b"5\r\n\r\nhello")
    said = LIKE_THE_ONE_BEFORE + rest + b"\r\n\r\n" + body
    whole = read_whole(method, said)
    if whole is not None:
        assert Read(whole.status, whole.body, ended=True, usable=True) == read(said, method)
        assert whole.fields == ((b"content-type", b"application/json"),)
    assert (whole is not None) == (
        method == "POST" and (rest, body) in ((b"5", b"hello"), (b"0", b""), (b"6", b"hello "))
    )


@pytest.mark.parametrize("field", [b"Content-Type: text/event-stream", b"Connection: close"])
def test_a_stream_and_a_last_response_are_not_read_as_a_whole(field: bytes) -> None:
    said = b"HTTP/1.1 200 OK\r\n" + field + b"\r\ncontent-length: 5\r\n\r\nhello"
    assert read(said) is not None
    assert read_whole("POST", said) is None


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize(
    "status", [b"204 No Content", b"304 Not Modified", b"421 Misdirected Request", b"404 Not Found"]
)
def test_a_status_that_says_more_than_the_length_is_read_as_such_each_time(status: bytes, method: str) -> None:
    said = b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\n\r\n"
    assert read(said, method) == read(said, method) == by_h11(said, method)


def test_names_are_lower_case_and_values_without_the_white_space_around_them() -> None:
    parser = ResponseParser("POST")
    parser.take(
        ok(b"", "X-A: \t a b \t", "x-a:c", "Connection: x-B", "X-B: hop by hop", "Content-Type: text/event-stream")
    )
    head = parser.head()
    assert head is not None
    assert head.fields == [
        (b"content-length", b"0"),
        (b"x-a", b"a b"),
        (b"x-a", b"c"),
        (b"content-type", b"text/event-stream"),
    ]
    assert head.is_event_stream


# Anything.


pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 304 x\r\n", b"HTTP/2.0 200 OK\r\n",
        b"a: b\r\n", b"a:\r\n", b"a : b\r\n", b"content-length: 2\r\n", b"content-length: 3\r\n", b"Content-Length: 2\r\n",
        b"content-length: 2 \r\n", b"content-length:\t2\r\n", b"content-length: 2,2\r\n", b"connection: close\r\n", b"connection: keep-alive\r\n",
        b"connection: Upgrade, close\r\n", b"upgrade: x\r\n", b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n",
        b"transfer-encoding: chunked, chunked\r\n", b"transfer-encoding:  chunked \r\n", b" folded\r\n", b"\r\n", b"\n", b"\r", b"{}", b"abc",
        b"2\r\n{}\r\n", b"0\r\n", b"0\r\n\r\n", b"00\r\n\r\n", b"2;x\r\n{}\r\n", b"2 \r\n{}\r\n", b"2; x=\"y\"\r\n{}\r\n", b"0;x\r\n", b"02\r\n{}\r\n",
        b"x: y\r\n\r\n", b"\0", b"\xff",
    ]
)  # fmt: skip
starts = st.sampled_from([b"HTTP/1.1 200 OK\r\n", CHUNKED, CHUNKED[:-2], HELLO[:-5], b""])
built = st.builds(lambda start, rest: start + b"".join(rest), starts, st.lists(pieces, max_size=7))
mutated = st.builds(
    lambda said, at, byte, cut: said[: at % (len(said) + 1)] + byte + said[at % (len(said) + 1) + cut :],
    st.sampled_from(list(WHOLE.values())),
    st.integers(0, 200),
    st.sampled_from(
        [b"", b"\r", b"\n", b" ", b"\t", b":", b",", b";", b"0", b"5", b"f", b"\0", b"\x7f", b"\x80", b"\r\n"]
    ),
    st.integers(0, 2),
)


@given(built | mutated, st.sampled_from(["POST", "GET", "HEAD"]), st.booleans())
@example(CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n", "POST", False)
def test_whatever_is_read_is_read_as_h11_reads_it(said: bytes, method: str, closes: bool) -> None:
    found = read(said, method, closes=closes)
    assert found is None or found == by_h11(said, method, closes=closes)


@given(built | mutated, st.sampled_from(["POST", "HEAD"]), st.integers(1, 9), st.booleans())
def test_how_it_is_cut_makes_no_difference(said: bytes, method: str, piece: int, closes: bool) -> None:
    whole, cut = read(said, method, closes=closes), read(said, method, piece=piece, closes=closes)
    assert whole == cut
