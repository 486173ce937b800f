"""The streams of a session: event ids, replay, and how long anything is kept."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.sessions.doubles import ANN, OFFER, open_hub
from trio_mcp import MCPServer
from trio_mcp.protocol.errors import InvalidEventId
from trio_mcp.protocol.jsonrpc import Request
from trio_mcp.sessions.streams import PRUNE_SECONDS, EventId, SessionStreams
from trio_mcp.streams.account import Account
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.budget import StreamBounds
from trio_mcp.streams.event_log import EventLog

KEEP_SECONDS = StreamBounds().keep_seconds


def resumable(streams: SessionStreams, id: int | str | None = 1) -> tuple[EventLog, str]:
    log = streams.new(1)
    return log, streams.make_resumable(log, id)


async def read(log: EventLog) -> None:
    reader = log.open_reader()
    for entry in await reader.batch():
        reader.wrote(entry)


async def test_what_is_read_when_the_session_is_over_leaves_no_byte_in_the_account() -> None:
    account = Account()
    streams = SessionStreams(account=account)
    log = streams.new(1)
    log.append(b"progress", Kind.LATEST, "p")
    streams.close()
    streams.make_resumable(log, 1)
    reader = log.open_reader()
    reader.leave()
    assert account.used == 0


# Ids


@given(st.integers() | st.text())
def test_an_event_id_comes_back_as_what_it_was_and_names_its_request(id: int | str) -> None:
    streams = SessionStreams()
    log, prefix = resumable(streams, id)
    log.append(b"1")
    text = f"{prefix}1"
    parsed = EventId.parse(text)
    assert f"{parsed.epoch}.{parsed.stream}.{parsed.n}" == text
    assert streams.find(parsed) == (log, prefix)
    assert parsed.request_id in {id, None}
    assert parsed.request_id == id or len(str(id).encode()) > 45
    assert text.isascii()
    assert text.isprintable()


def test_streams_of_the_same_request_id_have_different_ids() -> None:
    streams = SessionStreams()
    prefixes = {resumable(streams, each)[1] for each in (1, 1, "1", None, None)}
    assert len(prefixes | {streams.standalone_prefix}) == 6


def test_a_batch_and_the_own_stream_belong_to_no_request() -> None:
    streams = SessionStreams()
    _, prefix = resumable(streams, None)
    assert EventId.parse(f"{prefix}1").request_id is None
    assert EventId.parse(f"{streams.standalone_prefix}7").request_id is None


@pytest.mark.parametrize("tag", ["ix", "s____", "iabc", "q1", "i"])
def test_a_stream_that_only_looks_like_ours_names_no_request(tag: str) -> None:
    assert EventId(0, f"1-{tag}", 1).request_id is None


@pytest.mark.parametrize(
    "text",
    [
        *["", "x", "1", "0.g", "0.g.", "0.g.x", "0..1", "-1.g.1", "0.g.-1", "0.g.1.1", " 0.g.1", "0.g.1\n", "0.g!.1"],
        *["0." + "g" * 129 + ".1", "0.g." + "9" * 16, "9" * 10 + ".g.1", "0.g.1p", "0.g.1q1"],
    ],
)
def test_what_we_never_issued_is_an_invalid_event_id(text: str) -> None:
    with pytest.raises(InvalidEventId):
        EventId.parse(text)


@given(st.text())
def test_any_text_is_an_event_id_or_an_invalid_one(text: str) -> None:
    try:
        EventId.parse(text)
    except InvalidEventId:
        return


@pytest.mark.parametrize("change", [{"epoch": 1}, {"stream": "2-i1"}, {"stream": "1-i2"}, {"n": 9}])
def test_an_id_of_another_epoch_stream_or_number_finds_nothing(change: dict[str, object]) -> None:
    streams = SessionStreams()
    log, _ = resumable(streams)
    log.append(b"1")
    with pytest.raises(InvalidEventId):
        streams.find(EventId(**{"epoch": 0, "stream": "1-i1", "n": 1, **change}))  # type: ignore[arg-type]


def test_the_own_stream_is_found_by_the_numbers_it_gave_out() -> None:
    streams = SessionStreams()
    streams.standalone.append(b"1")
    for n in (0, 1):
        assert streams.find(EventId(0, "g", n)) == (streams.standalone, "0.g.")
    for never in (EventId(0, "g", 2), EventId(1, "g", 1)):
        with pytest.raises(InvalidEventId):
            streams.find(never)


def test_a_priming_event_has_an_id_of_its_own_and_stands_behind_the_event_it_names() -> None:
    streams = SessionStreams()
    marks = [streams.mark(), streams.mark()]
    assert len(set(marks)) == 2
    for mark in marks:
        assert EventId.parse(f"0.g.5{mark}") == EventId(0, "g", 5)


# Keeping


async def test_an_ended_stream_can_be_resumed_for_five_minutes(autojump_clock: trio.testing.MockClock) -> None:
    streams = SessionStreams()
    log, prefix = resumable(streams)
    log.finish(b"{}", 200)
    assert streams.prune() == trio.current_time() + PRUNE_SECONDS
    await trio.sleep(KEEP_SECONDS - 1)
    streams.prune()
    assert streams.find(EventId.parse(f"{prefix}0"))[0] is log
    await trio.sleep(2)
    assert streams.prune() == float("inf")
    with pytest.raises(InvalidEventId, match="not kept any more"):
        streams.find(EventId.parse(f"{prefix}0"))
    assert streams.budget.used == 0


async def test_a_stream_that_goes_on_is_kept_however_long(autojump_clock: trio.testing.MockClock) -> None:
    streams = SessionStreams()
    log, _ = resumable(streams)
    streams.prune()
    await trio.sleep(10 * KEEP_SECONDS)
    streams.prune()
    assert list(streams.all()) == [streams.standalone, log]


async def test_a_session_forgets_its_streams_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with open_hub(MCPServer("t"), session_idle_timeout=10 * KEEP_SECONDS) as hub:
        session = await hub.open(OFFER, ANN)
        log = session.accept([Request(1, "ping", {})], who=session.principal, streams=True)
        session.streams.make_resumable(log, 1)
        await trio.sleep(KEEP_SECONDS)
        assert len(list(session.streams.all())) == 2
        await trio.sleep(2 * PRUNE_SECONDS)
        assert list(session.streams.all()) == [session.streams.standalone]
        assert session.closed_because is None


# The budget


async def test_read_streams_are_the_first_to_go_and_unread_ones_stay() -> None:
    streams = SessionStreams()
    streams.budget.limit = 10_000
    (unread, _), (old, _), (new, _) = (resumable(streams, n) for n in range(3))
    for log in (old, unread):
        log.append(b"x" * 3_000)
        log.end()
    await read(old)
    new.append(b"y" * 2_000)
    assert list(streams.all()) == [streams.standalone, unread, new]
    assert streams.budget.used <= 10_000


async def test_what_was_read_of_a_stream_that_goes_on_goes_next() -> None:
    streams = SessionStreams()
    streams.budget.limit = 10_000
    (busy, _), (new, _) = (resumable(streams, n) for n in range(2))
    busy.append(b"read" * 1_500)
    await read(busy)
    busy.append(b"unread")
    new.append(b"y" * 4_000)
    assert [entry.data for entry in busy.after(0)] == [b"unread"]


async def test_a_large_reply_that_is_being_read_does_not_close_the_session_for_a_progress_message() -> None:
    streams = SessionStreams()
    (large, _), (busy, _) = (resumable(streams, n) for n in range(2))
    large.append(b"x" * 5 * 1024 * 1024)
    busy.append(b"progress", Kind.LATEST, "p")
    assert busy.after(0) == []


async def test_kept_streams_weigh_something_however_short_they_are() -> None:
    streams = SessionStreams()
    for n in range(10_000):
        log, _ = resumable(streams, n)
        log.finish(b"{}", 200)
        await read(log)
    assert len(list(streams.all())) < 5_000
    assert streams.budget.used <= streams.budget.limit + 2_048
