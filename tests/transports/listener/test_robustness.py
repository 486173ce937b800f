"""Whatever bytes come: an answer from the table or a closed connection, never a 500, a traceback or a hung task."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.listener.harness import answers, echo, get, post, serving
from tests.transports.listener.test_corpus import CASES, LIMITS

EXPECTED = {200, 400, 408, 413, 417, 431, 501, 505}

ATOMS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"HEAD",
        b" ",
        b"/",
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\0",
        b":",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length:",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"Expect: 100-continue\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"abc",
        b"ffffffff",
        b";",
        b"\xff",
    ]
)
SOUP = st.lists(ATOMS | st.binary(max_size=8), max_size=20).map(b"".join)
REQUESTS = st.sampled_from([case.data for case in CASES if len(case.data) < 400])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A few requests of the corpus with some bytes changed, dropped or added."""
    data = bytearray(b"".join(draw(st.lists(REQUESTS, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data[at : at + draw(st.integers(0, 3))] = draw(ATOMS | st.binary(max_size=3))
    return bytes(data)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    for begin, end in zip([0, *ends], ends, strict=False):
        if begin < end:
            yield data[begin:end]


async def converse(data: bytes, cuts: list[int]) -> bytes:
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        try:
            for piece in pieces(data, cuts):
                await client.say(piece)
                await trio.testing.wait_all_tasks_blocked()
        except trio.BrokenResourceError:
            pass
        heard = await client.hear_all()
        server.stopping.set()
        with trio.fail_after(1000):
            await server.stopped.wait()
        return heard


class Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def complaints() -> Iterator[Complaints]:
    handler = Complaints()
    logging.getLogger("trio_mcp").addHandler(handler)
    yield handler
    logging.getLogger("trio_mcp").removeHandler(handler)


def check(data: bytes, cuts: list[int], complaints: Complaints) -> None:
    heard = trio.run(converse, data, cuts, clock=trio.testing.MockClock(autojump_threshold=0))
    assert complaints.records == []
    if b"HEAD" not in data:
        assert {answer.status for answer in answers(heard)} <= EXPECTED
    assert b"HTTP/1.1 500" not in heard


CUTS = st.lists(st.integers(0, 2000), max_size=5)
FUZZ = settings(max_examples=300)


@FUZZ
@given(SOUP, CUTS)
def test_soup(complaints: Complaints, data: bytes, cuts: list[int]) -> None:
    check(data, cuts, complaints)


@FUZZ
@given(mutated(), CUTS)
def test_mutations(complaints: Complaints, data: bytes, cuts: list[int]) -> None:
    check(data, cuts, complaints)


@FUZZ
@given(st.binary(max_size=200), CUTS)
def test_noise(complaints: Complaints, data: bytes, cuts: list[int]) -> None:
    check(data, cuts, complaints)


@FUZZ
@given(st.lists(st.binary(max_size=20), max_size=6), CUTS)
def test_pipelined_bodies_come_back_however_they_are_cut(
    complaints: Complaints, bodies: list[bytes], cuts: list[int]
) -> None:
    requests = b"".join(post(body) for body in bodies) + get("/", "Connection: close")
    heard = trio.run(converse, requests, cuts, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [answer.body for answer in answers(heard)] == [b"POST / " + body for body in bodies] + [b"GET / "]
    assert complaints.records == []
