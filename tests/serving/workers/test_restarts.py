"""When a worker is started again, and when it hangs: tables of times."""

from __future__ import annotations

import pytest

from trio_mcp.serving.workers.restarts import (
    ALIVE_SECONDS,
    FIRST_PAUSE_SECONDS,
    MOST_PAUSE_SECONDS,
    STEADY_SECONDS,
    Place,
    hangs,
)


def test_a_worker_that_had_served_for_long_is_replaced_at_once() -> None:
    place = Place()
    assert [place.died(STEADY_SECONDS) for _ in range(3)] == [0, 0, 0]


def test_the_pause_doubles_while_workers_die_soon_after_their_start_up_to_a_bound() -> None:
    place = Place()
    pauses = [place.died(0.1) for _ in range(10)]
    assert pauses[0] == 0
    assert pauses[1:5] == [FIRST_PAUSE_SECONDS * 2**n for n in range(4)]
    assert pauses[-1] == MOST_PAUSE_SECONDS


def test_after_one_that_served_for_long_the_pauses_begin_anew() -> None:
    place = Place()
    for _ in range(5):
        place.died(0.1)
    assert place.died(STEADY_SECONDS) == 0
    assert place.died(0.1) == 0


def test_a_worker_that_never_got_ready_is_not_started_again_at_once() -> None:
    assert Place().died(None) == FIRST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("silent", "since_look", "expected"),
    [
        (29.9, ALIVE_SECONDS, False),
        (30.0, ALIVE_SECONDS, True),
        (300.0, 10 * ALIVE_SECONDS, False),  # the supervisor itself stood still: what the worker said is not read yet
    ],
)
def test_a_worker_hangs_when_its_loop_says_nothing_while_the_supervisor_looks(
    silent: float, since_look: float, expected: bool
) -> None:
    assert hangs(1000.0, 1000.0 - silent, looked=1000.0 - since_look, patience=30.0) is expected
