"""What a message too long to be taken says at its top level."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_mcp.transports.stdio.lines import OUTLINE_BYTES, Outline

LONG = "x" * 30_000


def outline(data: bytes, piece: int = 1 << 30) -> Outline:
    found = Outline()
    for at in range(0, len(data), piece):
        found.feed(data[at : at + piece])
    return found


REQUESTS: list[tuple[Any, Any]] = [
    ({"jsonrpc": "2.0", "id": 7, "method": "m", "params": {"text": LONG}}, 7),
    ({"params": {"id": 1, "text": LONG}, "method": "m", "id": "last"}, "last"),
    ({"params": {"text": LONG + '"}]}', "deep": [{"id": 2}]}, "id": 3, "method": "m"}, 3),
    ({"params": {"text": LONG + '\\"\\\\'}, "id": 'a"b\\', "method": "m"}, 'a"b\\'),
    ({"method": "m", "params": {"text": LONG}}, None),
    ({"method": "m", "id": None, "params": {"text": LONG}}, None),
    ({"method": "m", "id": 1.5, "params": {"text": LONG}}, None),
    ({"method": LONG, "id": 1}, None),
    ({"id": 1, "result": {"text": LONG}}, None),
    ([{"id": 1, "method": "m", "params": {"text": LONG}}], None),
    (LONG, None),
]


@pytest.mark.parametrize(("message", "id"), REQUESTS)
@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 30])
def test_the_id_of_a_request_is_read_wherever_it_stands(message: Any, id: Any, piece: int) -> None:
    assert outline(msgspec.json.encode(message), piece).request_id() == id


@pytest.mark.parametrize("answer", [{"result": {"text": LONG}}, {"error": {"code": 1, "message": LONG}}])
def test_the_id_of_a_reply_is_no_requests(answer: Any) -> None:
    found = outline(msgspec.json.encode({"jsonrpc": "2.0", **answer, "id": 5}))
    assert (found.reply_id(), found.request_id()) == (5, None)


@pytest.mark.parametrize("data", [b"", b"{", b'{"id":1,"method":"m"', b"}{", b'{"id":1 "method":"m"}', b"\xff" * 99])
def test_what_is_no_json_has_no_id(data: bytes) -> None:
    assert outline(data).request_id() is None
    assert outline(data).reply_id() is None


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists)), st.binary())
@settings(max_examples=100, deadline=None)
def test_whatever_it_holds_the_id_is_found_and_no_bytes_are_kept(params: dict[str, Any], junk: bytes) -> None:
    data = msgspec.json.encode({"params": {"p": params, "s": "y" * 5_000}, "id": 9, "method": "m"})
    found = outline(data, 11)
    assert found.request_id() == 9
    assert len(found._kept) < 100
    outline(junk, 3).request_id()


def test_the_top_level_is_kept_up_to_its_bound() -> None:
    found = outline(b'{"id":1,"method":"' + b"x" * 10 * OUTLINE_BYTES + b'"}')
    assert found.request_id() is None
    assert len(found._kept) <= 2 * OUTLINE_BYTES + 2


@pytest.mark.parametrize("deep", [b"[" * 60_000, b"]" * 60_000 + b"[" * 60_000, b'{"id":' + b"[{" * 60_000])
def test_what_is_nested_deeply_has_no_id(deep: bytes) -> None:
    assert outline(deep).request_id() is None
    assert outline(deep).reply_id() is None
