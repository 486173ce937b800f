"""Whether Redis can be believed: what each beat finds of this node's card, as a table. No Redis, no sockets, no clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.cluster.test_membership import Clock
from trio_mcp.cluster.record import NodeCard
from trio_mcp.cluster.store_trust import ANOTHER_RENEWED_SECONDS, REFILL_SECONDS, CardFound, StoreTrust

STANDING, MISSING, REFUSED, UNANSWERED = CardFound
ANOTHER, A_THIRD = NodeCard("b2", "http://node1:8000", "ready", 1, 1), NodeCard("b3", "", "ready", 1, 1)
SECONDS = 5.0
"""Between two beats."""

Found = CardFound | NodeCard


def trust_after(beats: Sequence[Found], clock: Clock, *, leaves_first: bool = False) -> StoreTrust:
    made = StoreTrust(clock)
    if leaves_first:
        made.leave()
    for each in beats:
        clock.passes(SECONDS)
        made.found(each)
    return made


# What one beat changes: beats before, the beat, and then: compare all records? has the name, expects its card, stood for, is refilled.
LATER = 2.0
TABLE: list[tuple[list[Found], Found, bool, bool, bool, float, bool]] = [
    ([], STANDING, False, True, True, LATER, True),
    ([], MISSING, True, True, True, LATER, True),
    ([], REFUSED, False, False, False, 0, True),
    ([], UNANSWERED, False, False, True, 0, True),
    ([], ANOTHER, True, False, False, 0, True),
    # Its card stood.
    ([STANDING], STANDING, False, True, True, SECONDS + LATER, True),
    ([STANDING], MISSING, True, True, True, LATER, False),
    ([STANDING], REFUSED, False, True, False, 0, True),
    ([STANDING], UNANSWERED, False, True, True, 0, True),
    ([STANDING], ANOTHER, True, False, True, 0, True),
    # It was put up.
    ([MISSING], STANDING, False, True, True, SECONDS + LATER, True),
    ([MISSING], MISSING, True, True, True, LATER, False),
    ([MISSING], REFUSED, False, True, False, 0, True),
    ([MISSING], UNANSWERED, False, True, True, 0, True),
    ([MISSING], ANOTHER, True, False, True, 0, True),
    # Redis refused it: that it is missing then proves nothing.
    ([STANDING, REFUSED], STANDING, False, True, True, LATER, True),
    ([STANDING, REFUSED], MISSING, True, True, True, LATER, True),
    ([STANDING, REFUSED], REFUSED, False, True, False, 0, True),
    ([STANDING, REFUSED], UNANSWERED, False, True, True, 0, True),
    ([STANDING, REFUSED], ANOTHER, True, False, False, 0, True),
    # Redis was away: it may have lost anything when it is back.
    ([UNANSWERED], STANDING, False, True, True, LATER, True),
    ([UNANSWERED], MISSING, True, True, True, LATER, False),
    ([UNANSWERED], REFUSED, False, False, False, 0, True),
    ([UNANSWERED], UNANSWERED, False, False, True, 0, True),
    ([UNANSWERED], ANOTHER, True, False, True, 0, True),
    # Another process had the name.
    ([ANOTHER], STANDING, False, True, True, LATER, True),
    ([ANOTHER], MISSING, True, True, True, LATER, True),
    ([ANOTHER], REFUSED, False, False, False, 0, True),
    ([ANOTHER], UNANSWERED, False, False, True, 0, True),
    ([ANOTHER], ANOTHER, True, False, False, 0, True),
    ([STANDING, ANOTHER], MISSING, True, True, True, LATER, False),
]


def label(found: Found) -> str:
    return found.value if isinstance(found, CardFound) else "another's"


def test_the_table_has_every_beat_after_every_other() -> None:
    beats: list[Found] = [*CardFound, ANOTHER]
    cells = [(before[-1:], beat) for before, beat, *_ in TABLE]
    for beat in beats:
        for before in ([], *([each] for each in beats)):
            assert (before, beat) in cells


@pytest.mark.parametrize(
    ("before", "beat", "compares", "has_node_id", "expects_card", "stood_for", "is_refilled"),
    TABLE,
    ids=[" ".join([*map(label, before), "then", label(beat)]) for before, beat, *_ in TABLE],
)
def test_what_a_beat_says_of_redis(
    before: list[Found],
    beat: Found,
    compares: bool,
    has_node_id: bool,
    expects_card: bool,
    stood_for: float,
    is_refilled: bool,
) -> None:
    clock = Clock()
    made = trust_after(before, clock)
    clock.passes(SECONDS)
    assert made.found(beat) is compares
    clock.passes(LATER)
    assert made.has_node_id is has_node_id
    assert made.has_lost_data(card_stands=False) is expects_card
    assert not made.has_lost_data(card_stands=True)
    assert made.stood_for == stood_for
    assert made.is_refilled is is_refilled
    assert made.another == (
        beat if beat is ANOTHER else before[-1] if beat is UNANSWERED and before == [ANOTHER] else None
    )


def test_a_while_after_redis_lost_data_a_missing_record_is_a_proof_again() -> None:
    clock = Clock()
    made = trust_after([STANDING, MISSING], clock)
    clock.passes(REFILL_SECONDS - 0.1)
    assert not made.is_refilled
    clock.passes(0.1)
    assert made.is_refilled


def test_a_card_does_not_stand_while_the_machine_is_suspended() -> None:
    clock = Clock()
    made = trust_after([STANDING], clock)
    clock.passes(60, suspended=True)
    clock.passes(1)
    assert made.stood_for == 1


@pytest.mark.parametrize(
    ("beats", "more", "renewed"),
    [
        ([STANDING], ANOTHER_RENEWED_SECONDS + 1, False),
        ([ANOTHER], ANOTHER_RENEWED_SECONDS, False),
        ([ANOTHER], ANOTHER_RENEWED_SECONDS + 0.1, True),
        ([ANOTHER, ANOTHER], ANOTHER_RENEWED_SECONDS - SECONDS + 0.1, True),
        ([ANOTHER, A_THIRD], ANOTHER_RENEWED_SECONDS, False),
        ([ANOTHER, STANDING, ANOTHER], ANOTHER_RENEWED_SECONDS, False),
        ([ANOTHER, STANDING], ANOTHER_RENEWED_SECONDS + 1, False),
    ],
)
def test_the_other_process_under_our_name_lives_when_its_card_was_renewed(
    beats: list[Found], more: float, renewed: bool
) -> None:
    clock = Clock()
    made = trust_after(beats, clock)
    clock.passes(more)
    assert made.another_is_renewed is renewed


def test_a_node_that_left_misses_no_card() -> None:
    clock = Clock()
    made = trust_after([STANDING], clock)
    made.leave()
    assert not made.has_lost_data(card_stands=False)
    made.found(UNANSWERED)
    assert not made.has_lost_data(card_stands=False)


def test_records_are_doubted_until_they_were_compared() -> None:
    made = StoreTrust(Clock())
    assert not made.records_doubted
    made.doubt_records()
    assert made.records_doubted
