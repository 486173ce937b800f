"""Legacy streams: when an answer becomes one, what is on it, and how a client that was cut off gets the rest."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import JSON, LEGACY, OLDER, SSE, Exchange, SessionClient, serving
from trio_mcp import Context, MCPServer
from trio_mcp.transports.http.event_stream import Pace

VERSIONS = [*OLDER, LEGACY]


@pytest.fixture
def mcp() -> MCPServer:
    """Tools that take their time; the tests' clock does not."""
    mcp = MCPServer("test")

    @mcp.tool
    async def after(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @mcp.tool
    async def count(to: int, ctx: Context) -> str:
        for number in range(1, to + 1):
            await ctx.report_progress(number, to)
            await trio.sleep(1)
        return "counted"

    @mcp.tool
    async def grow(ctx: Context) -> str:
        @mcp.tool(f"grown_{ctx.request_id}")
        async def grown() -> None: ...

        return "grown"

    @mcp.tool
    async def touch(uri: str, ctx: Context) -> str:
        await ctx.notify_resource_updated(uri)
        return "touched"

    @mcp.tool
    async def poll(ctx: Context) -> str:
        await ctx.info("before")
        await trio.sleep(2)
        await ctx.close_stream()
        await trio.sleep(60)
        await ctx.info("after")
        return "polled"

    @mcp.resource("note://{name}")
    async def note(name: str) -> str:
        return name

    return mcp


def counting(session: SessionClient, to: int, **headers: str) -> Exchange:
    params = {"name": "count", "arguments": {"to": to}, "_meta": {"progressToken": "p"}}
    return session.start("tools/call", params, headers=dict(headers))


def text(message: Any) -> str:
    found: str = message["result"]["content"][0]["text"]
    return found


# Hold-back.


@pytest.mark.requirement("L6")
async def test_a_quick_answer_is_plain_json(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        exchange = session.tool("after", seconds=0.4)
        assert await exchange.head() == 200
        assert exchange.headers["content-type"] == JSON
        assert text(await exchange.json()) == "done"


@pytest.mark.requirement("L6", "L8")
async def test_a_slow_answer_is_the_last_event_of_a_stream(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        started = trio.current_time()
        exchange = session.tool("after", seconds=100)
        assert await exchange.head() == 200
        assert trio.current_time() - started == pytest.approx(0.5)
        (message,) = await exchange.messages()
        assert text(message) == "done"


@pytest.mark.requirement("L7", "G1")
async def test_whatever_is_said_before_the_answer_makes_it_a_stream_at_once(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp, pace=Pace(stream_delay=0)) as wire:
        session = await wire.open()
        started = trio.current_time()
        exchange = counting(session, 3)
        await exchange.head()
        assert trio.current_time() == started
        *progress, answer = await exchange.messages()
        assert [message["params"] for message in progress] == [
            {"progressToken": "p", "progress": number, "total": 3} for number in (1, 2, 3)
        ]
        assert text(answer) == "counted"


async def test_a_client_that_takes_only_a_stream_gets_even_a_quick_answer_on_one(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(headers={"accept": SSE})
        exchange = session.tool("after", seconds=0)
        await exchange.head()
        assert exchange.headers["content-type"] == SSE
        assert text(await exchange.answer()) == "done"


async def test_a_client_that_takes_only_json_gets_json_however_late_and_the_rest_on_its_get(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        exchange = counting(session, 100, accept=JSON)
        assert text(await exchange.json()) == "counted"
        standalone = session.listen()
        assert [(await standalone.message())["params"]["progress"] for _ in range(100)] == list(range(1, 101))


async def test_a_server_told_to_answer_in_json_does_so(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp, json_response=True) as wire:
        session = await wire.open()
        exchange = session.tool("after", seconds=100)
        assert text(await exchange.json()) == "done"


# Heads, priming events, ids, comments.


@pytest.mark.requirement("H7", "gap-sse-head")
async def test_every_stream_tells_proxies_not_to_touch_it(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session, modern = await wire.open(), wire.modern()
        streams = [
            session.listen(),
            session.tool("after", seconds=9),
            modern.tool("after", seconds=9),
            modern.listen(toolsListChanged=True),
        ]
        for exchange in streams:
            assert await exchange.head() == 200
            assert exchange.headers["content-type"] == SSE
            assert exchange.headers["cache-control"] == "no-cache, no-transform"
            assert exchange.headers["x-accel-buffering"] == "no"


@pytest.mark.requirement("L10", "L12")
@pytest.mark.parametrize("version", VERSIONS)
async def test_streams_begin_with_a_priming_event_on_2025_11_25_only(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version)
        post, get = session.tool("after", seconds=1), session.listen()
        first, got = await post.event(), None
        if version == LEGACY:
            got = await get.event()
            for event in (first, got):
                assert event is not None
                assert event["data"] == ""
                assert int(event["retry"]) > 0
                assert event["id"]
                assert "event" not in event
            assert first != got
        else:
            assert first is not None
            assert first["data"]


@pytest.mark.requirement("L18", "L19", "gap-event-id-uniqueness")
@pytest.mark.parametrize("version", VERSIONS)
async def test_event_ids_are_unique_in_the_session_and_name_their_stream(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version)
        standalone = session.listen()
        await standalone.head()
        exchanges = [counting(session, 3), counting(session, 3), session.tool("after", seconds=2), session.tool("grow")]
        ids: list[str] = []
        for exchange in exchanges[:3]:
            of_stream = [event["id"] async for event in _events(exchange)]
            assert len({it.rpartition(".")[0] for it in of_stream}) == 1
            ids += of_stream
        await exchanges[3].answer()
        while (event := await standalone.event()) is not None:
            ids.append(event["id"])
            if "list_changed" in event["data"]:
                break
        assert len(set(ids)) == len(ids)
        assert len({it.rpartition(".")[0] for it in ids}) == 4


async def _events(exchange: Exchange) -> Any:  # noqa: ASYNC900
    while (event := await exchange.event()) is not None:
        yield event


@pytest.mark.requirement("L23", "H8", "gap-keep-alives")
async def test_a_quiet_stream_carries_a_comment_at_once_and_at_least_every_15_seconds(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session, modern = await wire.open(), wire.modern()
        quiet = [session.listen(), session.tool("after", seconds=9_999), modern.tool("after", seconds=9_999)]
        for exchange in quiet:
            await exchange.head()
            chunk = await exchange.raw.chunk()
            assert chunk is not None
            assert chunk.startswith(b": \n\n")
            heard = trio.current_time()
            for _ in range(5):
                assert await exchange.raw.chunk() == b": \n\n"
                assert trio.current_time() - heard <= 15.001
                heard = trio.current_time()


async def test_streams_that_opened_together_are_not_kept_alive_in_one_tick(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        calls = [session.tool("after", seconds=9_999) for _ in range(20)]
        beats = set()
        async with trio.open_nursery() as nursery:
            for call in calls:
                await call.raw.chunk()

            async def beat(call: Exchange) -> None:
                await call.raw.chunk()
                beats.add(trio.current_time())

            for call in calls:
                nursery.start_soon(beat, call)
        assert len(beats) == 20


# Coming back.


@pytest.mark.requirement("L20", "L13", "gap-disconnect-safety")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cut_off_call_runs_on_and_the_rest_is_resumed_behind_the_last_event(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version)
        call = counting(session, 5)
        while (event := await call.event()) is not None:
            if '"progress":2' in event["data"]:
                break
        call.disconnect()
        assert event is not None
        rest = await session.listen(event["id"]).messages()
        assert [message["params"]["progress"] for message in rest[:-1]] == [3, 4, 5]
        assert text(rest[-1]) == "counted"


@pytest.mark.requirement("L20")
async def test_a_call_can_be_resumed_from_its_priming_event_after_it_has_ended(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        call = session.tool("after", seconds=5)
        event = await call.event()
        call.disconnect()
        await trio.sleep(200)
        assert event is not None
        (answer,) = await session.listen(event["id"]).messages()
        assert text(answer) == "done"
        (again,) = await session.listen(event["id"]).messages()
        assert again == answer


async def test_what_was_resumed_to_its_end_ends_at_once(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        call = session.tool("after", seconds=5)
        events = [event async for event in _events(call)]
        assert await session.listen(events[-1]["id"]).messages() == []


async def test_an_ended_stream_is_kept_five_minutes_and_then_forgotten(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        call = session.tool("after", seconds=5)
        events = [event async for event in _events(call)]
        await trio.sleep(299)
        assert await session.listen(events[0]["id"]).head() == 200
        await trio.sleep(301)
        assert await session.listen(events[0]["id"]).head() == 400


@pytest.mark.requirement("L20", "L16", "gap-cross-stream-replay")
async def test_a_resumed_stream_replays_nothing_of_another(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        standalone = session.listen()
        one, two = counting(session, 3), session.tool("after", seconds=3)
        first, second, third = await one.event(), await two.event(), await standalone.event()
        for exchange in (one, two, standalone):
            exchange.disconnect()
        await session.tool("grow").answer()
        await trio.sleep(10)
        assert first is not None
        assert second is not None
        assert third is not None
        resumed = await session.listen(first["id"]).messages()
        assert [message.get("id") for message in resumed] == [None, None, None, 1]
        assert [message["id"] for message in await session.listen(second["id"]).messages()] == [2]
        message = await session.listen(third["id"]).message()
        assert message["method"] == "notifications/tools/list_changed"


@pytest.mark.requirement("L21")
@pytest.mark.parametrize(
    "last",
    ["", "x", "0", "0.g", "0.g.x", "0.g.-1", "9.g.1", "0.99.1", "0.1-i1.99", "0.g.99", "0.g.1 ", "é.g.1", "1" * 500],
)
async def test_a_last_event_id_we_never_issued_gets_400(autojump_clock: MockClock, mcp: MCPServer, last: str) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        call = session.tool("after", seconds=1)
        await call.head()
        exchange = session.listen(last)
        assert await exchange.head() == 400
        assert await session.start("ping").result() == {}


async def test_a_client_may_resume_while_its_old_connection_still_seems_open(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        call = counting(session, 4)
        event = await call.event()
        assert event is not None
        resumed = session.listen(event["id"])
        await resumed.head()
        messages = await resumed.messages()
        assert text(messages[-1]) == "counted"
        assert not [message for message in await call.messages() if "result" in message]


@pytest.mark.requirement("L18", "gap-event-id-uniqueness")
async def test_every_priming_event_has_an_id_of_its_own_to_resume_from(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        await session.tool("grow").answer()
        ids = []
        for _ in range(3):
            stream = session.listen()
            primed = await stream.event()
            assert primed is not None
            ids.append(primed["id"])
            if len(ids) == 1:
                assert "list_changed" in ((await stream.event()) or {})["data"]
            await wait_all_tasks_blocked()
            stream.disconnect()
            await wait_all_tasks_blocked()
        assert len(set(ids)) == 3
        again = await session.listen(ids[0]).message()
        assert again["method"] == "notifications/tools/list_changed"
        last = session.listen(ids[2])
        await session.tool("touch", uri="note://a").result()
        await session.delete().head()
        assert await last.messages() == []


# The standalone stream.


@pytest.mark.requirement("L14", "L17", "weak-second-get")
async def test_a_second_get_takes_the_place_of_the_first_which_ends_cleanly(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        first = session.listen()
        await first.head()
        second = session.listen()
        assert await second.head() == 200
        assert await first.messages() == []
        await session.tool("grow").answer()
        assert (await second.message())["method"] == "notifications/tools/list_changed"


@pytest.mark.requirement("L15", "L16", "T16", "gap-legacy-notifications")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_changed_list_is_told_once_on_the_get_of_every_session(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        one, two = await wire.open(version), await wire.open(version)
        streams = [one.listen(), two.listen()]
        for stream in streams:
            await stream.head()
        call = one.tool("grow")
        assert "result" in await call.answer()
        for stream in streams:
            assert (await stream.message())["method"] == "notifications/tools/list_changed"
        await one.delete().head()
        await two.delete().head()
        assert [await stream.messages() for stream in streams] == [[], []]


@pytest.mark.requirement("E7", "gap-legacy-notifications")
@pytest.mark.parametrize("version", VERSIONS)
async def test_an_updated_resource_is_told_to_who_subscribed_and_only_while_they_do(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        keen, bored = await wire.open(version), await wire.open(version)
        assert await keen.start("resources/subscribe", {"uri": "note://a"}).result() == {}
        streams = [keen.listen(), bored.listen()]
        for uri in ("note://b", "note://a", "note://a/part", "note://ab"):
            await bored.tool("touch", uri=uri).result()
        assert await keen.start("resources/unsubscribe", {"uri": "note://a"}).result() == {}
        await bored.tool("touch", uri="note://a").result()
        for session in (keen, bored):
            await session.delete().head()
        heard = [[message["params"]["uri"] for message in await stream.messages()] for stream in streams]
        assert heard == [["note://a", "note://a/part"], []]


@pytest.mark.requirement("gap-legacy-notifications")
async def test_what_happens_while_no_get_is_open_waits_for_the_next(autojump_clock: MockClock, mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        stream = session.listen()
        await stream.head()
        stream.disconnect()
        await wait_all_tasks_blocked()
        await session.tool("grow").answer()
        assert (await session.listen().message())["method"] == "notifications/tools/list_changed"


# Polling.


@pytest.mark.requirement("L9", "L11")
async def test_a_call_may_close_its_stream_and_its_client_fetches_the_rest_later(
    autojump_clock: MockClock, mcp: MCPServer
) -> None:
    async with serving(mcp, pace=Pace(retry=700)) as wire:
        session = await wire.open()
        call = session.tool("poll")
        events = [event async for event in _events(call)]
        assert "before" in events[1]["data"]
        assert 525 <= int(events[-1]["retry"]) <= 875
        assert not [event for event in events if "polled" in event.get("data", "")]
        messages = await session.listen(events[1]["id"]).messages()
        assert messages[0]["params"]["data"] == "after"
        assert text(messages[-1]) == "polled"


@pytest.mark.requirement("L9")
@pytest.mark.parametrize("version", OLDER)
async def test_older_clients_keep_their_stream_to_the_end(
    autojump_clock: MockClock, mcp: MCPServer, version: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version)
        messages = await session.tool("poll").messages()
        assert text(messages[-1]) == "polled"


async def test_streams_that_were_read_to_their_end_are_kept_for_replay_and_cost_their_session_nothing_else() -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def large(ctx: Context) -> str:
        await ctx.info("a stream, then")
        return "x" * 500_000

    async with serving(mcp) as wire:
        session = await wire.open()
        for _ in range(20):
            *_, answer = await session.tool("large").messages()
            assert len(answer["result"]["content"][0]["text"]) == 500_000
