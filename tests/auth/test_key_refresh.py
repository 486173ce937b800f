"""When keys are fetched: the decisions, without a clock."""

from __future__ import annotations

import pytest

from trio_mcp.auth.key_refresh import ASK_PAUSE_SECONDS, STALE_SECONDS, Ask, RefreshPlan, refresh_interval, retry_delay


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 600),
        ("public, max-age=900", 900),
        ("max-age=900", 900),
        ("Max-Age=900, public", 900),
        ('max-age="900"', 900),
        ("max-age=1", 60),
        ("max-age=0, no-cache", 60),
        ("max-age=86400", 3600),
        ("s-maxage=900", 600),
        ("xmax-age=900", 600),
        ("max-age=-1", 600),
        ("max-age=99999999999", 600),
        ("no-store", 600),
    ],
)
def test_the_issuer_says_how_long_its_keys_are_good_within_bounds(header: str, seconds: float) -> None:
    assert refresh_interval(header) == seconds


def test_attempts_come_less_and_less_often() -> None:
    assert [retry_delay(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert retry_delay(10_000) == 30


def test_a_failure_keeps_the_keys_until_they_are_stale() -> None:
    plan = RefreshPlan()
    assert plan.is_stale(0)
    plan.ended(0, asked=False, interval=600)
    plan.ended(600, asked=False, interval=None)
    assert plan.delay == 1
    assert not plan.is_stale(STALE_SECONDS)
    assert plan.is_stale(STALE_SECONDS + 1)
    plan.ended(STALE_SECONDS + 2, asked=False, interval=60)
    assert not plan.is_stale(STALE_SECONDS + 2)
    assert plan.delay == 60
    assert plan.statistics(STALE_SECONDS + 5) == {"age_seconds": 3, "succeeded": 2, "failed": 1}


def test_only_a_fetch_that_was_asked_for_starts_the_pause() -> None:
    plan = RefreshPlan()
    plan.ended(0, asked=False, interval=600)
    assert plan.ask(0) is Ask.WAIT
    plan.ended(0, asked=True, interval=600)
    assert plan.ask(ASK_PAUSE_SECONDS - 0.1) is Ask.UNKNOWN
    assert plan.ask(ASK_PAUSE_SECONDS) is Ask.WAIT
    plan.ended(10, asked=True, interval=None)
    assert plan.ask(19) is Ask.CANNOT_TELL
    plan.began()
    assert plan.ask(19) is Ask.WAIT
