import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.protocol.sse import EventReader, ServerSentEvent

STREAM = (
    b": keep-alive\r\n\r\n"
    b"id: 1.a.0\nretry: 300\ndata:\n\n"
    b"event: message\nid: 1.a.1\ndata: {\"a\":1}\n\n"
    b"data: two\rdata:lines\r\r"
    b"unknown: x\nretry: soon\nid: bad\0id\n\n"
    b"data: last\xc3\xa9\n\n"
)  # fmt: skip
EVENTS = [
    ServerSentEvent('{"a":1}', "1.a.1"),
    ServerSentEvent("two\nlines", "1.a.1"),
    ServerSentEvent("lasté", "1.a.1"),
]


def test_a_stream_is_read_whole() -> None:
    reader = EventReader()
    assert reader.feed(STREAM) == EVENTS
    assert (reader.last_id, reader.retry) == ("1.a.1", 300)


def test_a_stream_is_read_the_same_byte_by_byte() -> None:
    reader = EventReader()
    assert [event for byte in STREAM for event in reader.feed(bytes([byte]))] == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_where_the_network_cuts_a_stream_makes_no_difference(cuts: list[int]) -> None:
    reader, edges = EventReader(), sorted({0, *cuts, len(STREAM)})
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


def test_a_priming_event_is_remembered_though_nothing_is_dispatched() -> None:
    reader = EventReader()
    assert reader.feed(b"id: 7\ndata:\n\n") == []
    assert reader.last_id == "7"


@pytest.mark.parametrize("tail", [b"data: cut", b"data: cut\n", b"data: cut\r"])
def test_an_event_without_its_blank_line_never_happened(tail: bytes) -> None:
    assert EventReader().feed(tail) == []
