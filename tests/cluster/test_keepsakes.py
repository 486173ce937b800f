"""What is remembered of sessions that are nobody's for a moment, for how long, and how much."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.cluster.keepsakes import KEPT_SECONDS, MAX_BYTES, Keepsakes
from trio_mcp.cluster.record import Move

ID = "node1.abc"


def kept(keepsakes: Keepsakes) -> list[str]:
    return [session_id for session_id, _ in keepsakes.commands()]


@pytest.mark.parametrize(
    ("move", "stays"),
    [
        (Move(ID, "b2", 3), True),
        (Move(ID, "b2", 4), True),
        (Move(ID, "b2", 4, ended=True), False),
        (Move(ID, "b2", 5), False),
        (Move(ID, "b2", 5, ended=True), False),
        (Move("node1.other", "b2", 5), True),
    ],
)
async def test_a_later_life_and_an_end_are_no_reason_to_keep_it(move: Move, stays: bool) -> None:
    keepsakes = Keepsakes()
    keepsakes.keep(ID, 4, ("SET", b"x"))
    keepsakes.moved(move)
    assert kept(keepsakes) == ([ID] if stays else [])


async def test_it_is_kept_for_a_while_from_when_it_was_seen_last(autojump_clock: trio.testing.MockClock) -> None:
    keepsakes = Keepsakes()
    keepsakes.keep(ID, 0, ("SET", b"x"))
    await trio.sleep(KEPT_SECONDS - 1)
    keepsakes.keep("node1.other", 0, ("SET", b"x"))
    keepsakes.keep(ID, 0, ("SET", b"y"))
    await trio.sleep(2)
    assert dict(keepsakes.commands()) == {"node1.other": ("SET", b"x"), ID: ("SET", b"y")}
    await trio.sleep(KEPT_SECONDS)
    assert kept(keepsakes) == []


async def test_the_oldest_are_forgotten_past_the_bound_and_what_was_forgotten_counts_no_more() -> None:
    keepsakes = Keepsakes()
    quarter = bytes(MAX_BYTES // 4)
    for number in range(6):
        keepsakes.keep(f"node1.{number}", 0, ("SET", quarter))
    assert kept(keepsakes) == [f"node1.{number}" for number in (2, 3, 4, 5)]
    keepsakes.forget("node1.3")
    keepsakes.keep(ID, 0, ("SET", quarter))
    assert kept(keepsakes) == ["node1.2", "node1.4", "node1.5", ID]
