"""The hub: opening, finding and closing sessions, and that a crash ends one session only."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.sessions.doubles import ANN, BOB, OFFER, ask, open_hub, replies
from trio_mcp import Context, MCPServer, Session
from trio_mcp.dispatch.call import Client
from trio_mcp.protocol.errors import SessionClosed, SessionNotFound, TooManySessions
from trio_mcp.protocol.handshake import Offer
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import MAX_TOMBSTONES, TOMBSTONE_SECONDS, MemoryDirectory, Snapshot
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession

IDLE = 1_800.0


@asynccontextmanager
async def a_session(mcp: MCPServer | None = None, **options: Any) -> AsyncIterator[tuple[Hub, LiveSession]]:
    async with open_hub(mcp or MCPServer("t"), **options) as hub:
        yield hub, await hub.open(OFFER, ANN)


async def reason(hub: Hub, session: LiveSession, principal: Any = ANN) -> str:
    with pytest.raises(SessionNotFound) as gone:
        await hub.find(session.id, principal)
    return gone.value.reason


# Opening and finding


async def test_a_session_has_an_id_of_its_node_and_enough_random_characters() -> None:
    async with open_hub(MCPServer("t"), node_id="node-1") as hub:
        ids = [(await hub.open(OFFER, ANN)).id for _ in range(20)]
        assert len(set(ids)) == 20
        for each in ids:
            node, _, random = each.rpartition(".")
            assert node == "node-1"
            assert len(random) >= 22
            assert all("!" <= character <= "~" for character in each)
        assert hub.sessions[0].short_id == ids[0].rpartition(".")[2][:8]
        assert len(hub) == 20


async def test_a_session_speaks_the_version_it_negotiated() -> None:
    async with open_hub(MCPServer("t")) as hub:
        for asked, settled in {
            "2025-03-26": "2025-03-26",
            "2024-11-05": "2024-11-05",
            "2024-10-07": "2025-11-25",
        }.items():
            session = await hub.open(Offer(asked, {}, {"name": "c"}), ANN)
            assert session.protocol_version == settled
            assert session.client_info == {"name": "c"}


async def test_a_session_is_found_by_its_principal_and_by_nobody_else() -> None:
    async with a_session() as (hub, session):
        assert hub.get(session.id, ANN) is session
        assert await hub.find(session.id, ANN) is session
        assert hub.get(session.id, BOB) is None
        assert await reason(hub, session, BOB) == "unknown"


async def test_an_id_that_never_was_is_unknown() -> None:
    async with open_hub(MCPServer("t")) as hub:
        with pytest.raises(SessionNotFound, match="unknown"):
            await hub.find("node.nobody", ANN)


async def test_at_the_limit_no_session_opens_until_one_ends() -> None:
    async with open_hub(MCPServer("t"), max_sessions=2) as hub:
        first, second = await hub.open(OFFER, ANN), await hub.open(OFFER, ANN)
        for session in (first, second):
            await ask(session, "ping")
        with pytest.raises(TooManySessions, match="at most 2"):
            await hub.open(OFFER, ANN)
        first.close(CloseReason.DELETED)
        await trio.testing.wait_all_tasks_blocked()
        await hub.open(OFFER, ANN)


async def test_sessions_that_open_at_once_fill_the_limit_and_do_not_pass_it() -> None:
    results: list[bool] = []

    async def attempt(hub: Hub) -> None:
        try:
            await ask(await hub.open(OFFER, ANN), "ping")
            results.append(True)
        except TooManySessions:
            results.append(False)

    async with open_hub(MCPServer("t"), max_sessions=3) as hub:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(attempt, hub)
        assert sorted(results) == [False, False, True, True, True]


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_session_whose_caller_is_cancelled_while_it_opens_leaves_nothing(steps: int) -> None:
    class SlowDirectory(MemoryDirectory):
        async def opened(self, session: Snapshot) -> None:
            await trio.testing.wait_all_tasks_blocked()

    opened: list[LiveSession] = []
    async with open_hub(MCPServer("t")) as hub:
        hub.directory = SlowDirectory()

        async def open_one() -> None:
            opened.append(await hub.open(OFFER, ANN))

        with trio.CancelScope() as caller:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_one)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                caller.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert opened == []
        assert len(hub) == 0


async def test_a_session_that_is_just_open_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    async with open_hub(MCPServer("t")) as hub:
        monkeypatch.setattr(hub._service.metrics, "session_opened", lambda _: counts.append(len(hub)))
        await hub.open(OFFER, ANN)
    assert counts == [1]


async def test_a_hub_that_does_not_run_opens_nothing() -> None:
    mcp = MCPServer("t")
    hub = mcp.hub(mcp.service())
    with pytest.raises(TooManySessions):
        await hub.open(OFFER, ANN)


# Ending


async def test_a_deleted_session_is_gone_at_once_and_says_so_to_its_principal_only() -> None:
    async with a_session() as (hub, session):
        session.close(CloseReason.DELETED)
        session.close(CloseReason.EXPIRED)
        assert hub.get(session.id, ANN) is None
        assert await reason(hub, session) == "deleted"
        await trio.testing.wait_all_tasks_blocked()
        assert len(hub) == 0
        assert await reason(hub, session) == "deleted"
        assert await reason(hub, session, BOB) == "unknown"
        with pytest.raises(SessionClosed, match="deleted"):
            session.start_soon(trio.sleep_forever)


async def test_a_crash_in_a_background_task_ends_that_session_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash() -> None:
        raise ValueError("boom")

    async with a_session() as (hub, session):
        other = await hub.open(OFFER, ANN)
        session.start_soon(crash)
        await trio.testing.wait_all_tasks_blocked()
        assert hub.sessions == [other]
        assert await reason(hub, session) == "crashed"
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert [record.getMessage() for record in errors] == ["session crashed"]
        assert await ask(other, "ping") == {}


async def test_a_task_that_fails_while_the_server_stops_does_not_change_how_it_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async with a_session() as (_, session):
        session.start_soon(stubborn)
        session.start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
    assert "session crashed" in caplog.text


async def test_a_hook_runs_for_every_session_and_is_cancelled_with_it() -> None:
    mcp = MCPServer("t")
    seen: list[tuple[str, str]] = []

    @mcp.on_session
    async def watch(session: Session) -> None:
        seen.append(("began", session.id))
        try:
            await trio.sleep_forever()
        finally:
            seen.append(("ended", session.id))

    async with a_session(mcp) as (_, session):
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [("began", session.id)]
        session.close(CloseReason.DELETED)
        await trio.testing.wait_all_tasks_blocked()
        assert seen[-1] == ("ended", session.id)


async def test_the_end_of_the_hub_ends_its_sessions_and_answers_their_calls() -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def sleep(ctx: Context) -> None:
        await trio.sleep_forever()

    async with a_session(mcp) as (_, session):
        log = session.accept([call_of("sleep")], who=session.principal, streams=True)
        await trio.testing.wait_all_tasks_blocked()
    assert session.closed_because == "shutdown"
    (reply,) = await replies(log)
    assert reply["error"]["message"] == "The server is shutting down"


def call_of(tool: str, id: int = 1) -> Any:
    from trio_mcp.protocol.jsonrpc import Request

    return Request(id, "tools/call", {"name": tool})


# Idle


async def test_an_unused_session_expires(autojump_clock: trio.testing.MockClock) -> None:
    async with a_session(session_idle_timeout=IDLE) as (hub, session):
        await trio.sleep(IDLE - 1)
        assert hub.get(session.id, ANN) is session
        await trio.sleep(2)
        assert await reason(hub, session) == "expired"


async def test_every_request_puts_the_end_off(autojump_clock: trio.testing.MockClock) -> None:
    async with a_session(session_idle_timeout=IDLE) as (hub, session):
        for _ in range(3):
            await trio.sleep(IDLE - 1)
            await ask(session, "ping")
        assert hub.get(session.id, ANN) is session
        await trio.sleep(IDLE + 1)
        assert hub.get(session.id, ANN) is None


async def test_a_request_in_flight_holds_the_session(autojump_clock: trio.testing.MockClock) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def long() -> None:
        await trio.sleep(10 * IDLE)

    async with a_session(mcp, session_idle_timeout=IDLE) as (hub, session):
        session.accept([call_of("long")], who=session.principal, streams=True)
        await trio.sleep(11 * IDLE - 1)
        assert hub.get(session.id, ANN) is session
        await trio.sleep(2)
        assert hub.get(session.id, ANN) is None


async def test_an_open_stream_holds_the_session(autojump_clock: trio.testing.MockClock) -> None:
    async with a_session(session_idle_timeout=IDLE) as (hub, session):
        session.add_reader()
        await trio.sleep(10 * IDLE)
        assert hub.get(session.id, ANN) is session
        session.remove_reader()
        await trio.sleep(IDLE - 1)
        assert hub.get(session.id, ANN) is session
        await trio.sleep(2)
        assert hub.get(session.id, ANN) is None


# Tombstones


def snapshot(session_id: str) -> Snapshot:
    return Snapshot(id=session_id, epoch=0, principal_digest=ANN.digest, version="2025-11-25", client=Client({}, {}))


async def test_a_tombstone_stands_for_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    directory = MemoryDirectory()
    directory.closed(snapshot("a"), CloseReason.DELETED)
    await trio.sleep(TOMBSTONE_SECONDS - 1)
    assert await directory.why_gone("a", ANN) == "deleted"
    await trio.sleep(2)
    assert await directory.why_gone("a", ANN) == "unknown"
    directory.closed(snapshot("b"), CloseReason.EXPIRED)
    assert list(directory._tombstones) == ["b"]


async def test_the_number_of_tombstones_is_bounded() -> None:
    directory = MemoryDirectory()
    for n in range(MAX_TOMBSTONES + 1):
        directory.closed(snapshot(str(n)), CloseReason.DELETED)
    assert await directory.why_gone("0", ANN) == "unknown"
    assert await directory.why_gone("1", ANN) == "deleted"


async def test_a_session_that_comes_back_while_its_last_tasks_end_outlives_their_crash() -> None:
    async with a_session(max_per_principal=2) as (hub, first):
        go = trio.Event()

        async def ends_slowly() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(1_000, shield=True):
                    await go.wait()
                raise ValueError("cleanup")

        first.start_soon(ends_slowly)
        await trio.testing.wait_all_tasks_blocked()
        first.close(CloseReason.MOVED)
        await trio.testing.wait_all_tasks_blocked()
        again = await hub.restore(snapshot(first.id), ANN)
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert hub.get(first.id, ANN) is again
        page = hub._service.metrics.render()[0]
        assert b"trio_mcp_sessions_active 1.0" in page
        await hub.open(OFFER, ANN)
        with pytest.raises(TooManySessions):
            await hub.open(OFFER, ANN)
