"""Server-sent events as bytes, read back by the rules of WHATWG HTML §9.2."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.protocol.jsonrpc import encode, encode_notification
from trio_mcp.protocol.sse import COMMENT, event, priming, retry

TEXT = st.text() | st.text("\r\n\x85\u2028\u2029:\0 dataid")


def parsed(stream: bytes) -> list[dict[str, str]]:
    """The blocks of a stream as the standard splits them: fields by line, comments skipped."""
    blocks: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            blocks.append(fields)
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = fields.get(name, "") + value.removeprefix(" ")
    return [block for block in blocks if block]


@given(TEXT, TEXT)
def test_a_message_comes_back_as_one_event_whatever_text_it_carries(text: str, other: str) -> None:
    data = encode_notification("notifications/message", {"level": "info", "data": {text: other}})
    assert parsed(event(data)) == [{"event": "message", "data": data.decode()}]
    assert parsed(event(data, "0.1-i7.3")) == [{"id": "0.1-i7.3", "event": "message", "data": data.decode()}]


@given(st.lists(TEXT, min_size=1))
def test_events_behind_each_other_stay_apart(texts: list[str]) -> None:
    stream = b"".join(COMMENT + event(encode(text)) for text in texts)
    assert [block["data"].encode() for block in parsed(stream)] == [encode(text) for text in texts]


def test_a_comment_means_nothing() -> None:
    assert parsed(COMMENT * 3) == []


def test_the_priming_event_has_an_id_a_retry_and_empty_data() -> None:
    assert parsed(priming("0.g.0", 1500)) == [{"id": "0.g.0", "retry": "1500", "data": ""}]


def test_a_retry_is_no_event() -> None:
    assert parsed(retry(250)) == [{"retry": "250"}]


@pytest.mark.parametrize("made", [event(b"{}"), event(b"{}", "1"), priming("1", 1), retry(1), COMMENT])
def test_everything_ends_with_an_empty_line(made: Any) -> None:
    assert made.endswith(b"\n\n")
