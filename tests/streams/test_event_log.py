"""The log of a stream: order, bounds, and what is dropped when there is no room."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_mcp.protocol.errors import SlowReader
from trio_mcp.streams.backlog import Entry, Kind, Overflow
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import Answer, EventLog, Reader


def a_log(**options: Any) -> EventLog:
    return EventLog(options.pop("budget", None) or Budget(), **options)


def fill(log: EventLog, *texts: str, kind: Kind = Kind.VITAL) -> None:
    for text in texts:
        log.append(text.encode(), kind)


async def texts(reader: Reader) -> list[str]:
    """The next batch, delivered."""
    batch = await reader.batch()
    for entry in batch:
        reader.wrote(entry)
    return [entry.data.decode() for entry in batch]


def kept(log: EventLog) -> list[str]:
    return [entry.data.decode() for entry in log.after(0)]


# Reading


async def test_a_reader_gets_everything_in_order_with_numbers_from_one() -> None:
    log = a_log()
    fill(log, "a", "b")
    assert [(entry.n, entry.data) for entry in await log.open_reader().batch()] == [(1, b"a"), (2, b"b")]


async def test_appending_never_blocks_and_wakes_who_waits(nursery: trio.Nursery) -> None:
    log = a_log()
    got: list[str] = []

    async def read() -> None:
        got.extend(await texts(log.open_reader()))

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    with trio.testing.assert_no_checkpoints():
        fill(log, "late")
    assert not got
    await trio.testing.wait_all_tasks_blocked()
    assert got == ["late"]


async def test_the_end_reaches_a_reader_after_the_last_entry() -> None:
    log = a_log()
    fill(log, "a")
    log.end()
    fill(log, "too late")
    reader = log.open_reader()
    assert await texts(reader) == ["a"]
    assert await texts(reader) == []


async def test_the_end_wakes_a_reader_that_waits(nursery: trio.Nursery) -> None:
    log = a_log()
    done = trio.Event()

    async def read() -> None:
        assert await texts(log.open_reader()) == []
        done.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    log.end()
    await done.wait()


async def test_a_newer_reader_takes_the_place_of_the_old_one_which_ends_cleanly(nursery: trio.Nursery) -> None:
    log = a_log()
    old = log.open_reader()
    ended = trio.Event()

    async def read() -> None:
        assert await old.batch() == []
        ended.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    new = log.open_reader()
    await ended.wait()
    fill(log, "a")
    assert await texts(new) == ["a"]
    assert log.reader is new


async def test_closing_a_reader_ends_it_and_not_the_log() -> None:
    log = a_log()
    log.open_reader().close()
    fill(log, "a")
    assert not log.ended
    assert await texts(log.open_reader()) == ["a"]


async def test_a_new_reader_begins_behind_what_was_delivered() -> None:
    log = a_log()
    fill(log, "a", "b")
    reader = log.open_reader()
    first, _ = await reader.batch()
    reader.wrote(first)
    assert log.unread == 1
    assert await texts(log.open_reader()) == ["b"]


async def test_what_a_replaced_reader_still_writes_does_not_count_as_delivered() -> None:
    log = a_log()
    fill(log, "a")
    old = log.open_reader()
    (entry,) = await old.batch()
    new = log.open_reader()
    old.wrote(entry)
    assert await texts(new) == ["a"]


async def test_delivered_entries_are_kept_for_a_client_that_resumes_behind_an_earlier_one() -> None:
    log = a_log()
    fill(log, "a", "b", "c")
    assert await texts(log.open_reader()) == ["a", "b", "c"]
    assert await texts(log.open_reader(after=1)) == ["b", "c"]
    log.end()
    assert await texts(log.open_reader(after=0)) == ["a", "b", "c"]


async def test_a_gap_continues_at_the_oldest_kept_entry() -> None:
    log = a_log(max_events=3)
    reader = log.open_reader()
    for text in "abcdef":
        fill(log, text)
        await texts(reader)
    assert await texts(log.open_reader(after=1)) == ["d", "e", "f"]


async def test_a_log_whose_read_entries_were_given_back_still_waits_for_the_next(nursery: trio.Nursery) -> None:
    log = a_log()
    fill(log, "a")
    await texts(log.open_reader())
    log.forget_read()
    got: list[str] = []

    async def resume() -> None:
        got.extend(await texts(log.open_reader(after=0)))

    nursery.start_soon(resume)
    await trio.testing.wait_all_tasks_blocked()
    fill(log, "b")
    await trio.testing.wait_all_tasks_blocked()
    assert got == ["b"]


# Replies: held back while they may go out as plain JSON


def test_a_reply_that_comes_first_may_go_out_as_plain_json_with_its_status() -> None:
    log = a_log(expected=1)
    assert log.answer() is None
    log.finish(b"{}", 404)
    assert log.ended
    assert log.answer() == Answer(b"{}", 404)


def test_a_reply_after_a_notification_has_to_be_streamed() -> None:
    log = a_log(expected=1)
    fill(log, "note", kind=Kind.LOG)
    log.finish(b"{}", 404)
    assert log.answer() is None
    assert kept(log) == ["note", "{}"]


async def test_a_reply_after_the_stream_began_is_an_entry_and_ends_it() -> None:
    log = a_log(expected=1)
    reader = log.open_reader()
    log.finish(b"{}", 200)
    assert await texts(reader) == ["{}"]
    assert await texts(reader) == []


async def test_a_reply_held_back_becomes_an_entry_when_a_stream_is_opened_after_all() -> None:
    log = a_log(expected=2)
    log.finish(b"1", 200)
    reader = log.open_reader()
    assert await texts(reader) == ["1"]
    log.finish(b"2", 200)
    assert await texts(reader) == ["2"]
    assert await texts(reader) == []


def test_the_replies_of_a_batch_are_one_array() -> None:
    log = a_log(expected=2, batched=True)
    log.finish(b"1", 200)
    assert log.answer() is None
    log.finish(b"2", 404)
    assert log.answer() == Answer(b"[1,2]", 200)


def test_a_log_that_is_no_requests_does_not_end_by_replies() -> None:
    log = a_log()
    log.finish(b"1", 200)
    assert not log.ended


def test_nothing_is_taken_after_the_end() -> None:
    log = a_log(expected=1)
    log.finish(b"1", 200)
    log.finish(b"2", 200)
    fill(log, "x")
    assert log.answer() == Answer(b"1", 200)


# Bounds


def test_within_the_bounds_nothing_is_dropped() -> None:
    log = a_log(max_events=4, max_bytes=40)
    for kind in (Kind.LOG, Kind.LATEST, Kind.LATEST, Kind.VITAL):
        log.append(b"x" * 10, kind, "key")
    assert len(log.after(0)) == 4


async def test_what_was_read_goes_first() -> None:
    log = a_log(max_events=3)
    fill(log, "read 1", "read 2")
    await texts(log.open_reader())
    fill(log, "log", kind=Kind.LOG)
    fill(log, "vital")
    assert kept(log) == ["read 2", "log", "vital"]


def test_log_messages_and_superseded_ones_are_dropped_oldest_first() -> None:
    log = a_log(max_events=4)
    log.append(b"progress 1", Kind.LATEST, "p")
    fill(log, "log 1", kind=Kind.LOG)
    fill(log, "vital 1")
    log.append(b"progress 2", Kind.LATEST, "p")
    fill(log, "vital 2")
    assert kept(log) == ["log 1", "vital 1", "progress 2", "vital 2"]
    fill(log, "vital 3")
    assert [entry.data for entry in log.after(0) if entry.kind is not Kind.LOG] == [
        b"vital 1",
        b"progress 2",
        b"vital 2",
        b"vital 3",
    ]


def test_log_messages_go_before_the_latest_of_a_key() -> None:
    log = a_log(max_events=2)
    log.append(b"p", Kind.LATEST, "p")
    fill(log, "log", kind=Kind.LOG)
    fill(log, "reply")
    assert kept(log) == ["p", lost(1), "reply"]


def test_the_latest_of_each_key_stays() -> None:
    log = a_log(max_events=3)
    for n in range(50):
        log.append(b"p%d" % n, Kind.LATEST, "progress")
        log.append(b"q%d" % n, Kind.LATEST, "other")
    fill(log, "reply")
    assert kept(log) == ["p49", "q49", "reply"]


def test_the_latest_goes_only_when_nothing_else_is_left_to_drop() -> None:
    log = a_log(max_events=2)
    log.append(b"p", Kind.LATEST, "p")
    fill(log, "1", "2")
    assert kept(log) == ["1", "2"]


def test_bytes_are_bounded_as_events_are() -> None:
    log = a_log(max_bytes=25)
    for n in range(10):
        fill(log, f"log {n:05d}", kind=Kind.LOG)
    assert sum(len(entry.data) for entry in log.backlog._entries.values()) <= 25


def test_vital_messages_alone_over_the_bound_are_an_overflow() -> None:
    log = a_log(max_events=2)
    fill(log, "1", "2")
    with pytest.raises(Overflow):
        fill(log, "3")
    assert kept(log) == ["1", "2", "3"]


def test_vital_bytes_alone_over_the_bound_are_an_overflow_but_the_newest_does_not_count() -> None:
    log = a_log(max_bytes=10)
    fill(log, "x" * 1000)
    with pytest.raises(Overflow):
        fill(log, "y")


def test_a_message_that_may_be_missed_never_overflows() -> None:
    log = a_log(max_events=2)
    fill(log, "1", "2")
    fill(log, "log", kind=Kind.LOG)
    log.append(b"p", Kind.LATEST, "p")
    assert kept(log) == ["1", "2"]


class LookedAt(dict[int, Entry]):
    """Counts how often a message that is kept is looked at."""

    looks = 0

    def get(self, number: int, default: Any = None) -> Any:
        self.looks += 1
        return super().get(number, default)

    def values(self) -> Any:
        self.looks += len(self)
        return super().values()


@pytest.mark.parametrize(
    ("kind", "keys", "is_read"),
    [
        (Kind.VITAL, 0, True),
        (Kind.LOG, 0, False),
        (Kind.LATEST, 3_000, False),
        (Kind.LATEST, 3_000, True),
        (Kind.LATEST, 150, False),
        (Kind.LATEST, 1, True),
    ],
)
def test_what_a_message_costs_in_a_full_log_does_not_grow_with_what_is_kept(
    kind: Kind, keys: int, is_read: bool
) -> None:
    log = a_log(max_events=200)
    if is_read:
        log.open_reader()
    log.backlog._entries = looked_at = LookedAt()
    for number in range(3_000):
        log.append(b"x", Kind.VITAL if is_read and number % 2 else kind, number % keys if keys else None)
    assert looked_at.looks <= 10 * 3_000


async def test_a_full_log_with_room_again_goes_on_and_tells_of_what_it_refused() -> None:
    log = a_log(max_events=2)
    fill(log, "1", "2")
    fill(log, "log", kind=Kind.LOG)
    reader = log.open_reader()
    assert await texts(reader) == ["1", "2"]
    assert not log.unread
    with trio.fail_after(0):
        await log.flushed(5)
    with trio.move_on_after(0) as patience:
        await reader.batch()
    assert patience.cancelled_caught, "a refused message is nothing to read, nor the end"
    fill(log, "4")
    assert await texts(reader) == [lost(1), "4"]


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(0, 3), st.integers(0, 30))
        | st.sampled_from(["read", "reopen", "leave"]),
        max_size=60,
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_bounds_hold_numbers_grow_and_vital_messages_arrive(script: list[Any]) -> None:
    trio.run(_play, script)


async def _play(script: list[Any]) -> None:
    budget = Budget(limit=400)
    log = EventLog(budget, max_events=6, max_bytes=100)
    reader = log.open_reader()
    sent: list[bytes] = []
    seen: list[Entry] = []
    ids: dict[int, bytes] = {}
    overflowed = False

    async def read() -> None:
        with trio.move_on_after(0):
            for entry in await reader.batch():
                assert ids.setdefault(entry.n, entry.data) == entry.data
                reader.wrote(entry)
                seen.append(entry)

    for step in script:
        if step == "read":
            await read()
        elif step == "reopen":
            reader = log.open_reader()
        elif step == "leave":
            reader.leave()
        elif not overflowed:
            kind, key, size = step
            data = b"%d:%s" % (len(sent), b"x" * size)
            sent.append(data if kind is Kind.VITAL else b"")
            try:
                log.append(data, kind, key if kind is Kind.LATEST else None)
            except Overflow:
                overflowed = True
            else:
                others = [entry for entry in log.backlog._entries.values() if entry.n != log.last]
                # What somebody reads, or will, is bounded by the account alone.
                kept = [entry for entry in others if entry.kind is not Kind.VITAL or entry.n <= log.backlog.delivered]
                assert sum(len(entry.data) for entry in kept) <= 100
                assert len(log.backlog._entries) <= 6 or not kept
                unread = [
                    entry for entry in log.backlog._entries.values() if entry not in kept and entry.kind is Kind.VITAL
                ]
                assert log.unread_bytes == budget.unread == sum(len(entry.data) for entry in unread)
            assert budget.used == log.backlog._bytes == sum(len(entry.data) for entry in log.backlog._entries.values())
    await read()
    numbers = [entry.n for entry in seen]
    assert numbers == sorted(set(numbers))
    assert [entry.data for entry in seen if entry.kind is Kind.VITAL] == [data for data in sent if data]


# Lost log messages


def lost(count: int) -> str:
    text = f"{count} log messages were dropped: they came faster than they were read"
    params = {"level": "warning", "logger": "trio_mcp", "data": text}
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).decode()


async def test_one_message_tells_how_many_log_messages_were_lost_at_the_place_where_they_were() -> None:
    log = a_log(max_events=3)
    fill(log, "vital")
    fill(log, *"abcdefgh", kind=Kind.LOG)
    reader = log.open_reader()
    batch = await reader.batch()
    assert [entry.data.decode() for entry in batch] == ["vital", lost(6), "g", "h"]
    assert [entry.n for entry in batch] == [1, 7, 8, 9]
    for entry in batch:
        reader.wrote(entry)
    log.end()
    assert await texts(reader) == []


async def test_the_loss_is_told_once() -> None:
    log = a_log(max_events=2)
    fill(log, *"abc", kind=Kind.LOG)
    assert (await log.open_reader().batch())[0].data.decode() == lost(1)
    assert [entry.data for entry in await log.open_reader().batch()] == [b"b", b"c"]


async def test_superseded_progress_is_no_loss_to_tell() -> None:
    log = a_log(max_events=2)
    for n in range(9):
        log.append(b"%d" % n, Kind.LATEST, "p")
    fill(log, "reply")
    assert await texts(log.open_reader()) == ["8", "reply"]


async def dropped_while_written() -> tuple[EventLog, Reader]:
    """A log of three events whose first was dropped while its reader wrote it, with a fourth behind them."""
    log = a_log(max_events=3)
    fill(log, *"abc", kind=Kind.LOG)
    reader = log.open_reader()
    batch = await reader.batch()
    fill(log, "d", kind=Kind.LOG)
    for entry in batch:
        reader.wrote(entry)
    return log, reader


async def test_what_is_dropped_while_its_reader_writes_it_is_not_lost() -> None:
    log, reader = await dropped_while_written()
    assert await texts(reader) == ["d"]
    fill(log, *"efgh", kind=Kind.LOG)
    assert await texts(reader) == [lost(1), "f", "g", "h"]


async def test_what_was_dropped_under_a_reader_that_failed_is_told_to_the_next() -> None:
    log = a_log(max_events=3)
    fill(log, *"abc", kind=Kind.LOG)
    await log.open_reader().batch()
    fill(log, "d", kind=Kind.LOG)
    assert await texts(log.open_reader()) == [lost(1), "b", "c", "d"]


async def test_what_was_dropped_under_a_reader_that_wrote_it_is_not_told_to_the_next() -> None:
    log, _ = await dropped_while_written()
    following = log.open_reader()
    fill(log, *"efgh", kind=Kind.LOG)
    assert await texts(following) == [lost(2), "f", "g", "h"], "d and e"


async def test_a_notice_never_takes_the_number_of_an_event_that_was_delivered() -> None:
    log = a_log(max_events=4)
    fill(log, "1", "2")
    assert await texts(log.open_reader()) == ["1", "2"]
    fill(log, "3")
    fill(log, *"abcde", kind=Kind.LOG)
    resumed = await log.open_reader(after=0).batch()
    assert [(entry.n, entry.data.decode()) for entry in resumed] == [
        (3, "3"),
        (5, lost(2)),
        (6, "c"),
        (7, "d"),
        (8, "e"),
    ]


# Budgets


def test_a_budget_is_shared_by_the_logs_of_a_session_and_given_back() -> None:
    budget = Budget(limit=100)
    one, other = EventLog(budget), EventLog(budget)
    fill(one, "x" * 30)
    fill(other, "y" * 40)
    assert budget.used == 70
    one.discard()
    assert budget.used == 40
    assert one.ended
    fill(one, "ignored")
    assert budget.used == 40


def test_vital_messages_over_the_budget_are_an_overflow_of_the_log_that_tries() -> None:
    budget = Budget(limit=100)
    one, other = EventLog(budget), EventLog(budget)
    fill(one, "x" * 60, "x" * 60)
    with pytest.raises(Overflow):
        fill(other, "y")


def test_another_streams_large_reply_costs_a_log_its_missable_messages_and_no_more() -> None:
    budget = Budget(limit=100)
    one, other = EventLog(budget), EventLog(budget)
    fill(one, "x" * 500)
    fill(other, "log", kind=Kind.LOG)
    other.append(b"p", Kind.LATEST, "p")
    assert budget.used == 500


def test_before_anything_is_dropped_what_is_only_kept_is_reclaimed() -> None:
    budget = Budget(limit=100)
    old, log = EventLog(budget), EventLog(budget)
    fill(old, "x" * 80)
    budget.reclaim = old.discard
    fill(log, "log", kind=Kind.LOG)
    assert budget.used == 83
    fill(log, "y" * 40)
    assert budget.used == 43
    assert kept(log) == ["log", "y" * 40]


# Flushing


async def test_flushing_waits_until_the_reader_has_what_was_appended_so_far(nursery: trio.Nursery) -> None:
    log = a_log()
    fill(log, "a")
    flushed = trio.Event()

    async def flush() -> None:
        await log.flushed(5)
        flushed.set()

    nursery.start_soon(flush)
    await trio.testing.wait_all_tasks_blocked()
    fill(log, "not waited for")
    reader = log.open_reader()
    first, _ = await reader.batch()
    assert not flushed.is_set()
    reader.wrote(first)
    await flushed.wait()


async def test_flushing_gives_up_after_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    log = a_log()
    fill(log, "a")
    log.open_reader()
    with pytest.raises(SlowReader, match="20 s"):
        await log.flushed(20)
    assert trio.current_time() == pytest.approx(20)


async def test_flushing_ends_with_the_log(nursery: trio.Nursery) -> None:
    log = a_log()
    fill(log, "a")
    nursery.start_soon(log.flushed, 5)
    await trio.testing.wait_all_tasks_blocked()
    log.end()


async def test_nothing_unread_flushes_at_once() -> None:
    with trio.fail_after(0):
        await a_log().flushed(5)


# Cutting a stream off


async def test_closing_the_reader_before_there_is_one_ends_the_first_and_lets_the_next_read() -> None:
    log = a_log(expected=1)
    log.close_reader()
    log.finish(b"{}", 200)
    assert log.answer() is None
    assert await texts(log.open_reader()) == []
    assert await texts(log.open_reader()) == ["{}"]


async def test_closing_the_reader_ends_who_reads_now() -> None:
    log = a_log(expected=1)
    reader = log.open_reader()
    log.close_reader()
    assert await texts(reader) == []


async def test_what_a_log_looks_like_names_its_state_and_no_messages() -> None:
    log = EventLog(Budget())
    log.append(b"secret")
    assert repr(log) == "<EventLog unread, 1 events, 1 unread>"
    reader = log.open_reader()
    reader.wrote(reader.take()[0])
    assert repr(log) == "<EventLog read, 1 events, 0 unread>"
    log.end()
    assert repr(log) == "<EventLog ended, 1 events, 0 unread>"
