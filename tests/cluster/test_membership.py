"""What is concluded of other nodes, as tables: no Redis, no sockets, no clock."""

from __future__ import annotations

import math

import pytest

from trio_mcp.cluster.membership import (
    CARD_SECONDS,
    MISSED_BEAT_SECONDS,
    AtUrl,
    Evidence,
    Name,
    Verdict,
    at_url,
    judge,
    judge_name,
    superseded,
)
from trio_mcp.cluster.peer.outcomes import STRANGER, Broken, Misdirected, Outcome, Refused, Unanswered, Unreachable
from trio_mcp.cluster.record import OwnershipChange

BEAT_AGO, MISSED = 1.0, MISSED_BEAT_SECONDS
NOW, LATE = 0.0, MISSED_BEAT_SECONDS


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Refused(), AtUrl.REFUSED),
        (Unreachable(), AtUrl.SILENT),
        (Unanswered(), AtUrl.SILENT),
        (Broken(), AtUrl.SILENT),
        ("b1", AtUrl.ITSELF),
        ("b2", AtUrl.ANOTHER),
        (STRANGER, AtUrl.SILENT),
        (Misdirected("node1", "b1", None), AtUrl.ITSELF),
        (Misdirected("node1", "b2", None), AtUrl.ANOTHER),
        (Misdirected("node1", STRANGER, None), AtUrl.SILENT),
    ],
)
def test_what_an_outcome_says_of_the_process_that_was_meant(seen: Outcome | str, expected: AtUrl) -> None:
    assert at_url(seen, "b1") is expected


def test_of_a_process_nobody_knows_any_of_ours_is_as_good() -> None:
    assert at_url("b2", "") is AtUrl.ITSELF


@pytest.mark.parametrize(
    ("at", "silent_for", "waited", "expected"),
    [
        # Who answers, lives, whatever Redis says.
        (AtUrl.ITSELF, BEAT_AGO, NOW, Verdict.ALIVE),
        (AtUrl.ITSELF, math.inf, NOW, Verdict.ALIVE),
        (AtUrl.ITSELF, None, LATE, Verdict.ALIVE),
        # A refusal alone is no death.
        (AtUrl.REFUSED, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, BEAT_AGO, LATE, Verdict.UNKNOWN),
        (AtUrl.REFUSED, 0.0, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, None, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, None, LATE, Verdict.UNKNOWN),
        (AtUrl.REFUSED, MISSED - 0.1, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, MISSED, NOW, Verdict.GONE),
        (AtUrl.REFUSED, MISSED, LATE, Verdict.GONE),
        (AtUrl.REFUSED, math.inf, NOW, Verdict.GONE),
        # Nor is another process at its address: a proxy may lead there for a moment.
        (AtUrl.ANOTHER, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.ANOTHER, BEAT_AGO, LATE, Verdict.UNKNOWN),
        (AtUrl.ANOTHER, None, NOW, Verdict.WAIT),
        (AtUrl.ANOTHER, MISSED, NOW, Verdict.GONE),
        (AtUrl.ANOTHER, math.inf, NOW, Verdict.GONE),
        # Who takes connections and says nothing may be stopped, and go on: its card has to fall.
        (AtUrl.SILENT, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.SILENT, MISSED, NOW, Verdict.WAIT),
        (AtUrl.SILENT, MISSED, LATE, Verdict.UNKNOWN),
        (AtUrl.SILENT, None, LATE, Verdict.UNKNOWN),
        (AtUrl.SILENT, float(CARD_SECONDS), NOW, Verdict.GONE),
        (AtUrl.SILENT, math.inf, NOW, Verdict.GONE),
    ],
)
def test_whether_a_process_is_gone(at: AtUrl, silent_for: float | None, waited: float, expected: Verdict) -> None:
    assert judge(Evidence(at, silent_for, waited)) is expected


@pytest.mark.parametrize(
    ("at", "silent_for", "waited", "ours", "expected"),
    [
        (AtUrl.ITSELF, BEAT_AGO, NOW, False, Name.WAIT),
        (AtUrl.ITSELF, BEAT_AGO, 20.0, False, Name.REFUSE),
        (AtUrl.ITSELF, math.inf, 20.0, False, Name.REFUSE),
        (AtUrl.REFUSED, BEAT_AGO, NOW, False, Name.WAIT),
        (AtUrl.REFUSED, MISSED, NOW, False, Name.TAKE),
        (AtUrl.REFUSED, BEAT_AGO, 20.0, False, Name.REFUSE),
        (AtUrl.SILENT, MISSED, NOW, False, Name.WAIT),
        (AtUrl.SILENT, float(CARD_SECONDS), NOW, False, Name.TAKE),
        (AtUrl.ANOTHER, BEAT_AGO, NOW, False, Name.WAIT),
        (AtUrl.ANOTHER, BEAT_AGO, NOW, True, Name.TAKE),
        (AtUrl.SILENT, None, NOW, False, Name.WAIT),
        (AtUrl.SILENT, None, 20.0, False, Name.REFUSE),
    ],
)
def test_whether_a_node_id_is_free(
    at: AtUrl, silent_for: float | None, waited: float, ours: bool, expected: Name
) -> None:
    assert judge_name(Evidence(at, silent_for, waited), ours=ours, patience=20.0) is expected


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (OwnershipChange("s", "b2", 4), True),
        (OwnershipChange("s", "b2", 3), True),
        (OwnershipChange("s", "b1", 3), False),
        (OwnershipChange("s", "b1", 4), True),
        (OwnershipChange("s", "b2", 2), False),
        (OwnershipChange("s", "b1", 3, ended=True), True),
        (OwnershipChange("s", "b2", 3, ended=True), False),
        (OwnershipChange("s", "b2", 4, ended=True), True),
        (OwnershipChange("s", "b1", 2, ended=True), False),
    ],
)
def test_which_copy_of_a_session_stays(move: OwnershipChange, expected: bool) -> None:
    assert superseded("b1", 3, move) is expected
