"""What a node writes of its sessions into a real Redis, what it owes while Redis is away, and what it gives up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.cluster.parts import ANN, BOB, KEYS, DirectoryHarness, directory_harness, snapshot, way_to
from tests.rig.waiting import PATIENCE, until
from trio_mcp.cluster.directory import READ_SECONDS
from trio_mcp.cluster.record import (
    SESSION_SECONDS,
    TOMBSTONE_SECONDS,
    Identity,
    OwnershipChange,
    Record,
    Tombstone,
    moved_message,
)
from trio_mcp.cluster.store.port import StoreDown
from trio_mcp.cluster.writer import GROUP_SECONDS
from trio_mcp.sessions.close_reason import CloseReason

OVER_BOTH_STORES = True


@asynccontextmanager
async def waiting_for_ever(made: DirectoryHarness) -> AsyncIterator[None]:
    """Redis is frozen for the length of the block, and the link to it waits longer than any test."""
    link, made.store._store = (
        made.store._store,
        way_to(made.redis, 30 * PATIENCE),
    )
    made.redis.pause()
    yield
    made.redis.resume()
    made.store._store.close()
    made.store._store = link


async def flushed(made: DirectoryHarness) -> None:
    with trio.fail_after(PATIENCE):
        await made.directory.writer.flushed()


async def test_an_opened_session_is_on_record_for_thirty_days_with_what_a_restore_needs_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot(subscriptions=("a://b",), log_level="error"))
        assert await made.record() == {
            "v": 1,
            "node": "node1",
            "boot": "b1",
            "epoch": 0,
            "url": "http://node1:8000",
            "principal": ANN.recorded_as,
            "version": "2025-11-25",
            "info": {"name": "test"},
            "capabilities": {"roots": {}},
            "initialized": False,
            "log_level": "error",
            "subscriptions": ["a://b"],
            "restorable": True,
            "released": False,
            "created": 1,
            "transport": "",
        }
        assert SESSION_SECONDS - 5 < await made.redis.ask("TTL", KEYS.session("node1.abc")) <= SESSION_SECONDS


@pytest.mark.requirement("ws-36")
async def test_a_session_that_lives_on_a_websocket_is_on_record_for_operators_and_unknown_to_requests(
    tmp_path: Path,
) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot(bound=True))
        record = await made.record()
        assert record is not None
        assert (record["transport"], record["restorable"]) == ("websocket", False)
        assert await made.directory.look_up("node1.abc") is None
        assert await made.directory.why_gone("node1.abc", ANN) is CloseReason.UNKNOWN
        made.directory.closed(snapshot(bound=True), CloseReason.SHUTDOWN)
        await flushed(made)
        assert await made.record() is None, "nobody can restore it"


async def test_a_session_that_ends_leaves_a_tombstone_in_its_records_place(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        made.directory.closed(snapshot(), CloseReason.EXPIRED)
        await flushed(made)
        assert await made.record() is None
        assert await made.tombstone() == {"reason": "expired", "principal": ANN.recorded_as, "boot": "b1", "epoch": 0}
        assert TOMBSTONE_SECONDS - 5 < await made.redis.ask("TTL", KEYS.closed("node1.abc")) <= TOMBSTONE_SECONDS


@pytest.mark.parametrize("reason", [CloseReason.MOVED, CloseReason.RELEASED])
async def test_a_session_that_goes_on_elsewhere_leaves_its_record_alone(tmp_path: Path, reason: CloseReason) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        made.directory.closed(snapshot(), reason)
        await flushed(made)
        assert (await made.record())["node"] == "node1"
        assert await made.tombstone() is None


async def test_what_another_node_took_over_is_neither_deleted_nor_overwritten_and_our_copy_is_given_up(
    tmp_path: Path,
) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await mine.directory.opened(snapshot())
        await other.directory.opened(snapshot(epoch=1))
        mine.directory.changed(snapshot(log_level="debug"))
        await flushed(mine)
        assert mine.lost == ["node1.abc"]
        mine.directory.closed(snapshot(), CloseReason.EXPIRED)
        await flushed(mine)
        assert (await mine.record())["boot"] == "b2"
        assert await other.directory.why_gone("node1.abc", ANN) == "elsewhere"
        await other.reconciler.compare([snapshot(epoch=1)])
        assert other.lost == [], "the tombstone is for the life before"


async def test_a_later_life_on_the_same_process_is_another_owner(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot(epoch=2))
        made.directory.closed(snapshot(epoch=1), CloseReason.EXPIRED)
        await flushed(made)
        assert (await made.record())["epoch"] == 2


async def test_a_late_end_of_an_earlier_life_takes_no_tombstone_of_a_later_one(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await other.directory.opened(snapshot(epoch=1))
        other.directory.closed(snapshot(epoch=1), CloseReason.DELETED)
        await flushed(other)
        mine.directory.closed(snapshot(), CloseReason.EXPIRED)
        await flushed(mine)
        assert await mine.tombstone() == {"reason": "deleted", "principal": ANN.recorded_as, "boot": "b2", "epoch": 1}


async def test_what_another_node_took_up_meanwhile_is_neither_removed_nor_buried(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await mine.directory.opened(snapshot())
        record = await mine.directory.look_up("node1.abc")
        assert isinstance(record, Record)
        await other.directory.opened(snapshot(epoch=1))
        assert not await mine.directory.remove("node1.abc", record)
        assert (await mine.record())["boot"] == "b2"
        assert await mine.tombstone() is None
        record = await mine.directory.look_up("node1.abc")
        assert isinstance(record, Record)
        assert await mine.directory.remove("node1.abc", record)
        assert await mine.record() is None
        assert (await mine.tombstone())["epoch"] == 1


@pytest.mark.only_redis("values of other types")
async def test_what_redis_will_not_remove_is_not_said_to_be_removed(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        record = await made.directory.look_up("node1.abc")
        assert isinstance(record, Record)
        await made.redis.ask("DEL", KEYS.session("node1.abc"))
        await made.redis.ask("LPUSH", KEYS.session("node1.abc"), "x")
        with pytest.raises(StoreDown):
            await made.directory.remove("node1.abc", record)


async def test_an_opening_goes_on_without_redis_before_the_link_has_given_it_up(tmp_path: Path) -> None:
    async with directory_harness(tmp_path, in_haste=True) as made, waiting_for_ever(made):
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            await made.directory.opened(snapshot())
        assert trio.current_time() - began >= GROUP_SECONDS
        assert not made.store.down


async def test_while_redis_is_away_an_opening_does_not_wait(tmp_path: Path) -> None:
    async with directory_harness(tmp_path, in_haste=True) as made:
        made.redis.pause()
        await made.directory.opened(snapshot())
        await until(made.is_down, "Redis counts as away")
        with trio.testing.assert_no_checkpoints():
            await made.directory.opened(snapshot("node1.def"))
        assert made.trust.records_doubted
        made.redis.resume()


async def test_what_ended_while_redis_was_away_is_owed_until_it_is_back(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        await made.redis.stop()
        made.directory.closed(snapshot(), CloseReason.DELETED)
        await until(made.is_down, "Redis counts as away")
        assert b"trio_mcp_owed_writes 1.0" in made.metrics.render()[0]
        await made.redis.start()
        await flushed(made)
        assert await made.tombstone() == {"reason": "deleted", "principal": ANN.recorded_as, "boot": "b1", "epoch": 0}
        assert b"trio_mcp_owed_writes 0.0" in made.metrics.render()[0]


async def test_a_check_writes_what_an_emptied_redis_has_lost_and_gives_up_what_is_anothers_or_buried(
    tmp_path: Path,
) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await other.directory.opened(snapshot("node1.taken", epoch=1))
        await mine.directory.opened(snapshot("node1.ended"))
        record = await other.directory.look_up("node1.ended")
        assert isinstance(record, Record)
        await other.directory.remove("node1.ended", record)
        await mine.reconciler.compare([snapshot("node1.missing"), snapshot("node1.taken"), snapshot("node1.ended")])
        assert (await mine.record("node1.missing"))["boot"] == "b1"
        assert (await mine.record("node1.taken"))["boot"] == "b2"
        assert await mine.record("node1.ended") is None
        assert sorted(mine.lost) == ["node1.ended", "node1.taken"]


async def ended_in_its_second_life(mine: DirectoryHarness, other: DirectoryHarness) -> None:
    """Opened here, taken up and ended there."""
    await mine.directory.opened(snapshot())
    await other.directory.opened(snapshot(epoch=1))
    other.directory.closed(snapshot(epoch=1), CloseReason.DELETED)
    await flushed(other)
    assert await mine.record() is None


async def test_a_check_gives_up_what_was_taken_up_and_ended_elsewhere(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await ended_in_its_second_life(mine, other)
        await mine.reconciler.compare([snapshot()])
        assert mine.lost == ["node1.abc"]
        assert await mine.record() is None


async def test_a_change_of_what_was_taken_up_and_ended_elsewhere_does_not_bring_it_back(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await ended_in_its_second_life(mine, other)
        mine.directory.changed(snapshot(log_level="error"))
        await flushed(mine)
        assert mine.lost == ["node1.abc"]
        assert await mine.record() is None


async def test_the_tombstone_of_a_life_before_ends_no_later_one(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as mine,
        directory_harness(tmp_path, node="node2", boot="b2", redis=mine.redis) as other,
    ):
        await mine.directory.opened(snapshot())
        mine.directory.closed(snapshot(), CloseReason.EXPIRED)
        await flushed(mine)
        await other.reconciler.compare([snapshot(epoch=1)])
        assert other.lost == []
        assert (await mine.record())["epoch"] == 1


async def test_a_value_that_is_no_record_is_nobodys_and_replaced(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        for garbage in ("", "not json", "[]", '{"boot": 3}', '"text"', "null"):
            await made.redis.ask("SET", KEYS.session("node1.abc"), garbage)
            assert await made.directory.look_up("node1.abc") is None
            await made.reconciler.compare([snapshot()])
            assert (await made.record())["boot"] == "b1"
            assert made.lost == []


@pytest.mark.only_redis("values of other types")
async def test_a_value_of_another_type_fails_that_command_and_no_other(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.redis.ask("LPUSH", KEYS.session("node1.bad"), "x")
        await made.reconciler.compare([snapshot("node1.bad"), snapshot("node1.good")])
        assert (await made.record("node1.good"))["boot"] == "b1"
        assert made.lost == []


async def test_a_record_of_another_release_says_where_the_session_is_and_nothing_else(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        later = {"v": 99, "node": "node9", "boot": "b9", "epoch": 4, "url": "http://node9:8000", "principal": ["new"]}
        await made.redis.ask("SET", KEYS.session("node1.abc"), msgspec.json.encode(later).decode())
        record = await made.directory.look_up("node1.abc")
        assert isinstance(record, Record)
        assert (record.node, record.url, record.principal, record.readable, record.restorable) == (
            "node9",
            "http://node9:8000",
            None,
            False,
            False,
        )
        await made.reconciler.compare([snapshot()])
        assert made.lost == ["node1.abc"]
        assert (await made.record())["v"] == 99


async def test_only_the_principal_of_a_session_hears_why_it_is_gone(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as made,
        directory_harness(tmp_path, node="node2", boot="b2", redis=made.redis) as other,
    ):
        await made.directory.opened(snapshot("node1.live"))
        await made.directory.opened(snapshot("node1.dead"))
        made.directory.closed(snapshot("node1.dead"), CloseReason.CRASHED)
        await flushed(made)
        assert await other.directory.why_gone("node1.live", ANN) == "elsewhere"
        assert await other.directory.why_gone("node1.live", BOB) == "unknown"
        assert await other.directory.why_gone("node1.dead", ANN) == "crashed"
        assert await other.directory.why_gone("node1.dead", BOB) == "unknown"
        assert await made.directory.why_gone("node1.dead", ANN) == "crashed"


async def test_a_frozen_redis_is_asked_for_a_quarter_second(tmp_path: Path) -> None:
    async with directory_harness(tmp_path, in_haste=True) as made, waiting_for_ever(made):
        with trio.fail_after(PATIENCE), pytest.raises(StoreDown, match=f"within {READ_SECONDS} s"):
            await made.directory.look_up("node1.abc")


async def test_a_stopping_node_releases_what_a_peer_can_restore_and_buries_the_rest(tmp_path: Path) -> None:
    async with (
        directory_harness(tmp_path) as made,
        directory_harness(tmp_path, node="node2", boot="b2", restorable=False, redis=made.redis) as plain,
    ):
        await made.directory.opened(snapshot())
        made.directory.closed(snapshot(), CloseReason.SHUTDOWN)
        await plain.directory.opened(snapshot("node2.abc"))
        plain.directory.closed(snapshot("node2.abc"), CloseReason.SHUTDOWN)
        await flushed(made)
        await flushed(plain)
        assert (await made.record())["released"] is True
        assert await made.tombstone() is None
        assert await made.record("node2.abc") is None
        assert await made.tombstone("node2.abc") == {
            "reason": "node_gone",
            "principal": ANN.recorded_as,
            "boot": "b2",
            "epoch": 0,
        }


async def test_many_sessions_opened_at_once_share_their_round_trips(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(made.directory.opened, snapshot(f"node1.{number}"))
        trips = [
            line
            for line in made.metrics.render()[0].decode().splitlines()
            if "directory_duration_seconds_count" in line
        ]
        assert float(trips[0].split()[-1]) < 20
        assert len(await made.redis.ask("KEYS", "mcp:session:*")) == 200


async def test_nobody_whose_record_is_written_waits_for_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.writer.GROUP_SECONDS", 3600.0)
    async with directory_harness(tmp_path) as made:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                async with made.directory.writer.order:
                    # The writer has woken for the first, and waits its turn, when the second comes.
                    for number in range(2):
                        nursery.start_soon(made.directory.opened, snapshot(f"node1.{number}"))
                        await trio.testing.wait_all_tasks_blocked()
        assert len(await made.redis.ask("KEYS", "mcp:session:*")) == 2


async def test_the_record_of_an_earlier_life_is_replaced_and_told_and_that_of_a_later_one_stands(
    tmp_path: Path,
) -> None:
    async with (
        directory_harness(tmp_path) as first,
        directory_harness(tmp_path, node="node2", boot="b2", redis=first.redis) as later,
    ):
        await first.directory.opened(snapshot())
        await later.reconciler.compare([snapshot(epoch=1)])
        assert (await first.record())["boot"] == "b2"
        ((_, fields),) = await first.redis.ask("XRANGE", KEYS.moves, "-", "+")
        assert fields[1] == moved_message([OwnershipChange("node1.abc", "b2", 1)])
        await first.reconciler.compare([snapshot()])
        assert (first.lost, later.lost) == (["node1.abc"], [])


async def test_what_is_kept_is_written_with_the_next_check_unless_the_session_has_gone_on_or_ended(
    tmp_path: Path,
) -> None:
    async with directory_harness(tmp_path) as made:
        for session_id in ("node9.lost", "node9.gone-on", "node9.ended"):
            made.directory.keep(session_id, Record.of(snapshot(), Identity("node9", "b9", ""), restorable=True))
        await made.directory.opened(snapshot("node9.gone-on", epoch=1))
        await made.redis.ask(
            "SET", KEYS.closed("node9.ended"), msgspec.json.encode(Tombstone("deleted", ANN.digest, "b9", 0)).decode()
        )
        await made.reconciler.compare([])
        assert (await made.record("node9.lost"))["boot"] == "b9"
        assert (await made.record("node9.gone-on"))["boot"] == "b1"
        assert await made.record("node9.ended") is None
        # What a node has written since is not replaced by what another remembers.
        await made.redis.ask(
            "SET", KEYS.session("node9.lost"), '{"v":2,"node":"node9","boot":"b9","epoch":0,"url":"x"}'
        )
        await made.reconciler.compare([])
        assert (await made.record("node9.lost"))["url"] == "x"
