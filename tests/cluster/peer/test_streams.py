"""What a client has seen of a relayed stream decides how it may end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_mcp.cluster.peer.outcomes import is_harmless, last_event, lost_answer
from trio_mcp.cluster.peer.streams import RelayedStream
from trio_mcp.protocol.sse import COMMENT, event, priming

PRIMED = COMMENT + priming("0.1-i1.0p1", 1000)
BARE = COMMENT + event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"id: 1"}}')


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
@pytest.mark.parametrize(("said", "resumable"), [(PRIMED, True), (b"id:1\n\n", True), (BARE, False), (COMMENT, False)])
def test_a_stream_can_be_resumed_once_an_event_id_was_passed_on(said: bytes, resumable: bool, size: int) -> None:
    stream = RelayedStream(resumable=False, heeds_ids=True)
    for start in range(0, len(said), size):
        stream.passed(said[start : start + size])
    assert stream.resumable == resumable


def test_an_id_that_its_client_does_not_heed_makes_no_stream_resumable() -> None:
    stream = RelayedStream(resumable=False, heeds_ids=False)
    stream.passed(b"id: 0.1-i1.1\n" + BARE)
    assert not stream.resumable


def test_between_events_is_where_one_has_ended_and_none_begun() -> None:
    stream = RelayedStream(resumable=True, heeds_ids=True)
    assert stream.between_events
    for said, between in [(b": \n\n", True), (b"data: 1", False), (b"", False), (b"2\n", False), (b"\n", True)]:
        stream.passed(said)
        assert stream.between_events == between


def body(*messages: Any) -> bytes:
    return json.dumps(messages[0] if len(messages) == 1 else messages).encode()


CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
TOLD = {"jsonrpc": "2.0", "method": "notifications/x"}


@pytest.mark.parametrize("content", [b"", b"{", body(TOLD), body(TOLD, TOLD)])
def test_who_asked_nothing_is_answered_nothing(content: bytes) -> None:
    assert lost_answer(content) is None
    assert last_event(content) == b""


def test_each_request_is_answered_under_its_id() -> None:
    single, several = (
        json.loads(lost_answer(each) or b"") for each in (body(CALL), body(CALL, TOLD, {**CALL, "id": "2"}))
    )
    assert single["id"] == 1
    assert [each["id"] for each in several] == [1, "2"]
    assert {each["error"]["code"] for each in [single, *several]} == {-32603}
    assert last_event(body(CALL)) == event(lost_answer(body(CALL)) or b"")


@pytest.mark.parametrize(
    ("method", "harmless"),
    [
        ("ping", True),
        ("tools/list", True),
        ("resources/subscribe", True),
        ("logging/setLevel", True),
        ("tools/call", False),
        ("resources/read", False),
        ("prompts/get", False),
        ("completion/complete", False),
        ("initialize", False),
        ("subscriptions/listen", False),
        ("nobody/knows", False),
    ],
)
def test_what_may_be_sent_to_another_owner_when_the_first_one_is_lost(method: str, harmless: bool) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method}
    assert is_harmless(body(asked)) is harmless
    assert not is_harmless(body(asked, asked))
    assert not is_harmless(b"")
