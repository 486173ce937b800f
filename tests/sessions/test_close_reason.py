"""The words of the reasons: records of other releases, dashboards and clients rely on them."""

from __future__ import annotations

import msgspec
import pytest

from trio_mcp.sessions.close_reason import CloseReason

SEEN_OUTSIDE = {
    CloseReason.DELETED: "deleted",
    CloseReason.EXPIRED: "expired",
    CloseReason.CRASHED: "crashed",
    CloseReason.OVERFLOW: "overflow",
    CloseReason.GONE: "gone",
    CloseReason.UNUSED: "unused",
    CloseReason.CLOSED: "closed",
    CloseReason.SHUTDOWN: "shutdown",
    CloseReason.MOVED: "moved",
    CloseReason.RELEASED: "released",
    CloseReason.NODE_GONE: "node_gone",
    CloseReason.ELSEWHERE: "elsewhere",
    CloseReason.UNKNOWN: "unknown",
    CloseReason.OTHER: "other",
}


@pytest.mark.parametrize("reason", CloseReason, ids=str)
def test_every_reason_has_its_word_and_its_explanation(reason: CloseReason) -> None:
    assert f"{reason}" == SEEN_OUTSIDE[reason]
    assert msgspec.json.encode({"reason": reason}) == b'{"reason":"%s"}' % SEEN_OUTSIDE[reason].encode()
    assert CloseReason.read(SEEN_OUTSIDE[reason]) is reason
    assert reason.explanation


def test_a_word_of_another_release_is_other() -> None:
    assert CloseReason.read("a word of tomorrow") is CloseReason.OTHER


def test_the_failures_the_ends_of_a_copy_and_what_peers_say_of_a_stop() -> None:
    assert {reason for reason in CloseReason if reason.is_failure} == {CloseReason.CRASHED, CloseReason.OVERFLOW}
    assert {reason for reason in CloseReason if reason.goes_on} == {CloseReason.MOVED, CloseReason.RELEASED}
    differs = {reason: reason.as_seen_by_peers for reason in CloseReason if reason.as_seen_by_peers is not reason}
    assert differs == {CloseReason.SHUTDOWN: CloseReason.NODE_GONE}
