"""What is remembered of sessions that are nobody's for a moment, for how long, and how much."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.cluster.record import OwnershipChange, Record
from trio_mcp.cluster.record_backups import KEPT_SECONDS, MAX_BYTES, RecordBackups
from trio_mcp.cluster.store.port import PutBackRecord

ID = "node1.abc"


def write(value: bytes = b"x") -> PutBackRecord:
    """What writes a record that is encoded so."""
    made = PutBackRecord(ID, Record(v=2, node="node1", boot="b1", epoch=0))
    made.value = value
    return made


def kept(backups: RecordBackups) -> list[str]:
    return [session_id for session_id, _ in backups.writes()]


@pytest.mark.parametrize(
    ("move", "stays"),
    [
        (OwnershipChange(ID, "b2", 3), True),
        (OwnershipChange(ID, "b2", 4), True),
        (OwnershipChange(ID, "b2", 4, ended=True), False),
        (OwnershipChange(ID, "b2", 5), False),
        (OwnershipChange(ID, "b2", 5, ended=True), False),
        (OwnershipChange("node1.other", "b2", 5), True),
    ],
)
async def test_a_later_life_and_an_end_are_no_reason_to_keep_it(move: OwnershipChange, stays: bool) -> None:
    backups = RecordBackups()
    backups.keep(ID, 4, write())
    backups.changed(move)
    assert kept(backups) == ([ID] if stays else [])


async def test_it_is_kept_for_a_while_from_when_it_was_seen_last(autojump_clock: trio.testing.MockClock) -> None:
    backups = RecordBackups()
    backups.keep(ID, 0, write())
    await trio.sleep(KEPT_SECONDS - 1)
    backups.keep("node1.other", 0, write())
    backups.keep(ID, 0, write(b"y"))
    await trio.sleep(2)
    assert dict(backups.writes()) == {"node1.other": write(), ID: write(b"y")}
    await trio.sleep(KEPT_SECONDS)
    assert kept(backups) == []


async def test_the_oldest_are_forgotten_past_the_bound_and_what_was_forgotten_counts_no_more() -> None:
    backups = RecordBackups()
    quarter = bytes(MAX_BYTES // 4)
    for number in range(6):
        backups.keep(f"node1.{number}", 0, write(quarter))
    assert kept(backups) == [f"node1.{number}" for number in (2, 3, 4, 5)]
    backups.forget("node1.3")
    backups.keep(ID, 0, write(quarter))
    assert kept(backups) == ["node1.2", "node1.4", "node1.5", ID]
