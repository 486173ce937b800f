"""Requests byte by byte, good and bad, and the answers they get."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from tests.transports.listener.harness import answers, echo, get, post, serving
from trio_mcp.transports.listener import Limits

LIMITS = Limits(head_bytes=1024, body_bytes=64)
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    data: bytes
    statuses: list[int]
    body: bytes | None = None
    methods: list[str] = field(default_factory=list)
    closes: bool = False
    """The server ends the connection, so bytes that follow are not a request."""


def good(name: str, data: bytes, body: bytes | None = None, methods: Sequence[str] = ()) -> Case:
    return Case(name, data, [200], body, list(methods))


def bad(name: str, data: bytes, status: int = 400) -> Case:
    return Case(name, data, [status], closes=True)


REQUEST_LINES = [
    good("a plain GET", get(), b"GET / "),
    good("a target with a query", get("/x?y=1"), b"GET /x "),
    good("a percent-encoded target", get("/a%20b"), b"GET /a%20b "),
    good("absolute-form that names the Host", get("http://a/b"), b"GET /b "),
    good("absolute-form without a path", get("http://A"), b"GET / "),
    good("the asterisk of OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * "),
    good("one empty line in front", b"\r\n" + get(), b"GET / "),
    good("an upgrade, which is ignored", get("/", "Connection: Upgrade", "Upgrade: h2c"), b"GET / "),
    good("a HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"", methods=["HEAD"]),
    bad("absolute-form for another host", get("http://b/"), 400),
    bad("absolute-form of another scheme", get("ftp://a/"), 400),
    bad("the asterisk of GET", get("*"), 400),
    bad("a fragment", get("/a#b"), 400),
    bad("a relative target", get("a"), 400),
    bad("a control character in the target", get("/\x01"), 400),
    bad("a byte above ASCII in the target", get("/\xe4"), 400),
    bad("an unknown method", b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    bad("a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    bad("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    bad("a space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    bad("a space in front", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    bad("a lone LF in front", b"\n" + get()),
    bad("a lone CR in front", b"\r" + get()),
    bad("HTTP/0.9", b"GET /\r\n\r\n"),
    bad("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    bad("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    bad("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    bad("RTSP", b"GET / RTSP/1.0\r\n\r\n"),
    bad("ICE", b"SOURCE / ICE/1.0\r\n\r\n"),
    bad("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
    bad("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    bad("a bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
]
HEADERS = [
    good("white space around a value", get("/", "X:\t a \t"), b"GET / "),
    good("an empty value", get("/", "X:", "Y: "), b"GET / "),
    good("a byte above ASCII in a value", get("/", "X: \xe4"), b"GET / "),
    good("an IPv6 Host", b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", b"GET / "),
    good("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / "),
    bad("a bare LF between headers", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    bad("a bare LF at the end", b"GET / HTTP/1.1\r\nHost: a\n\n"),
    bad("a bare CR in a value", get("/", "X: a\rb")),
    bad("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    bad("a folded header", get("/", "X: a", " b")),
    bad("a header folded with a tab", get("/", "X: a", "\tb")),
    bad("a first header that is folded", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    bad("a space before the colon", get("/", "X : a")),
    bad("a header without a name", get("/", ": a")),
    bad("a header without a colon", get("/", "abc")),
    bad("NUL in a value", get("/", "X: a\0b")),
    bad("a control character in a value", get("/", "X: a\x01b")),
    bad("DEL in a value", get("/", "X: a\x7fb")),
    bad("a parenthesis in a name", get("/", "X(: a")),
    bad("a byte above ASCII in a name", get("/", "X\xe4: a")),
    bad("no Host on HTTP/1.1", b"GET / HTTP/1.1\r\n\r\n"),
    bad("two Hosts", get("/", "Host: a")),
    bad("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    bad("a Host with user information", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    bad("a head that is too large", get("/", "X: " + "a" * 1024), 431),
    bad("many headers that are too large together", get("/", *["X: a"] * 300), 431),
    bad("a request line that is too large", get("/" + "a" * 1024), 431),
    bad("an expectation nobody knows", post(b"x", "Expect: 200-ok"), 417),
]
LENGTHS = [
    good("a body", post(b"abc"), b"POST / abc"),
    good("an empty body", post(b""), b"POST / "),
    good("a POST without a length", HEAD + b"\r\n", b"POST / "),
    good("a body with a GET", get("/", "Content-Length: 3") + b"abc", b"GET / abc"),
    good("leading zeros in a length", HEAD + b"Content-Length: 003\r\n\r\nabc", b"POST / abc"),
    good("a body of the largest size", post(b"x" * 64), b"POST / " + b"x" * 64),
    bad("a body that is too large", post(b"x" * 65), 413),
    bad("a length beyond every number", HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    bad("a huge length", HEAD + b"Content-Length: 9999999999999999999\r\n\r\n", 413),
    bad("two lengths", HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    bad("two lengths that differ", HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    bad("a list of lengths", HEAD + b"Content-Length: 3, 3\r\n\r\nabc"),
    bad("a length with a sign", HEAD + b"Content-Length: +3\r\n\r\nabc"),
    bad("a negative length", HEAD + b"Content-Length: -3\r\n\r\nabc"),
    bad("a hexadecimal length", HEAD + b"Content-Length: 0x3\r\n\r\nabc"),
    bad("an empty length", HEAD + b"Content-Length:\r\n\r\nabc"),
    bad("a length with a space inside", HEAD + b"Content-Length: 3 3\r\n\r\nabc"),
    bad("a length, then a coding", HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    bad("a coding, then a length", HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
]
CHUNKS = [
    good("a chunked body", CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"POST / abcde"),
    good("an empty chunked body", CHUNKED + b"0\r\n\r\n", b"POST / "),
    good("a size in hexadecimal", CHUNKED + b"0A\r\n0123456789\r\n0\r\n\r\n", b"POST / 0123456789"),
    good("chunk extensions", CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0 ;x\r\n\r\n', b"POST / abc"),
    good("trailers, which are dropped", CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\nHost: b\r\n\r\n", b"POST / abc"),
    good("a coding in capitals", HEAD + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", b"POST / "),
    good("chunks of the largest size together", CHUNKED + (b"20\r\n" + b"x" * 32 + b"\r\n") * 2 + b"0\r\n\r\n"),
    bad("chunks that are too large together", CHUNKED + (b"20\r\n" + b"x" * 32 + b"\r\n") * 3 + b"0\r\n\r\n", 413),
    bad("a chunk that is too large", CHUNKED + b"ffffffff\r\n", 413),
    bad("a chunk size beyond every number", CHUNKED + b"fffffffffffffffff\r\n"),
    bad("a bare LF after a size", CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    bad("a bare CR after a size", CHUNKED + b"3\rabc\r\n0\r\n\r\n"),
    bad("a bare LF after a chunk", CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    bad("a bare LF in an extension", CHUNKED + b"3;a\nabc\r\n0\r\n\r\n"),
    bad("a bare LF after a trailer", CHUNKED + b"0\r\nX: y\n\r\n"),
    bad("a bare LF at the end of chunks", CHUNKED + b"0\r\n\n"),
    bad("a control character in an extension", CHUNKED + b"3;a=\x01\r\nabc\r\n0\r\n\r\n"),
    bad("an endless extension", CHUNKED + b"3;" + b"a" * 300),
    bad("a space in front of a size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n"),
    bad("a space after a size", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    bad("a negative size", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    bad("a size with a prefix", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    bad("an underscore in a size", CHUNKED + b"1_0\r\nabc\r\n0\r\n\r\n"),
    bad("no size", CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk longer than its size", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    bad("a folded trailer", CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"),
    bad("a trailer without a colon", CHUNKED + b"0\r\nabc\r\n\r\n"),
    bad("endless trailers", CHUNKED + b"0\r\n" + b"X: y\r\n" * 2000),
    bad("an unknown coding", HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    bad("a coding before chunked", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    bad("a coding after chunked", HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    bad("chunked twice", HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    bad("nearly chunked", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    bad("chunked on HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
]
PERSISTENCE = [
    Case("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", [200], b"GET / ", closes=True),
    good("HTTP/1.0 kept alive", b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", b"GET / "),
    Case("Connection: close", get("/", "Connection: close"), [200], b"GET / ", closes=True),
    Case("close among other options", get("/", "Connection: x , Close"), [200], b"GET / ", closes=True),
    Case("pipelined requests", get("/1") + post(b"two") + get("/3"), [200, 200, 200]),
    Case("a bad request behind a good one", get() + b"FOO\r\n\r\n", [200, 400], closes=True),
    Case("a chunked request, then another", CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + get(), [200, 200]),
    Case("nothing", b"", [], closes=True),
    Case("an empty line alone", b"\r\n", [], closes=True),
    bad("half a head", b"GET / HT", 408),
    bad("a head without its end", b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
    bad("half a body", HEAD + b"Content-Length: 3\r\n\r\nab", 408),
    bad("half a chunk", CHUNKED + b"3\r\nab", 408),
    bad("chunks without an end", CHUNKED + b"3\r\nabc\r\n", 408),
]
CASES = REQUEST_LINES + HEADERS + LENGTHS + CHUNKS + PERSISTENCE
COMPLETE = [case for case in CASES if case.statuses and case.statuses[-1] != 408]


def check(case: Case, heard: bytes) -> None:
    found = answers(heard, case.methods)
    assert [answer.status for answer in found] == case.statuses
    if case.body is not None:
        assert found[0].body == case.body
    if found and found[-1].status != 200:
        assert found[-1].headers[b"connection"] == b"close"


@pytest.fixture(autouse=True)
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client sends is not worth a line above DEBUG."""
    yield
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=name_of)
async def test_whole(case: Case, autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(case.data)
        check(case, await client.hear_all())


@pytest.mark.parametrize("case", CASES, ids=name_of)
async def test_byte_by_byte(case: Case, autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say_slowly, case.data)
            heard = await client.hear_all()
        check(case, heard)


@pytest.mark.parametrize("case", COMPLETE, ids=name_of)
async def test_with_another_request_behind(case: Case, autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(case.data + get("/behind"))
        found = answers(await client.hear_all(), case.methods)
    behind = [] if case.closes else [200]
    assert [answer.status for answer in found] == case.statuses + behind
    assert case.closes or found[-1].body == b"GET /behind "
