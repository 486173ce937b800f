"""Tasks of a session that run one call after the other: no call notices the ones before it."""

from __future__ import annotations

import contextvars
import weakref
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.sessions.doubles import ANN, OFFER, ask, open_hub, replies
from trio_mcp import Context, MCPServer
from trio_mcp.protocol.jsonrpc import Notification, Request
from trio_mcp.sessions.calls import BUSY_SECONDS, MOST_WAITING
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.live_session import LiveSession

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Watched:
    """A server whose tools note the tasks that they ran in."""

    def __init__(self) -> None:
        self.mcp = MCPServer("test")
        self.tasks: list[trio.lowlevel.Task] = []
        self.said: list[str] = []
        self.left_open = trio.CancelScope()

        @self.mcp.tool
        async def note(user_name: str = "") -> str:
            self.tasks.append(trio.lowlevel.current_task())
            before = user.get()
            user.set(user_name)
            return before

        @self.mcp.tool
        async def work(seconds: float = 60) -> str:
            self.tasks.append(trio.lowlevel.current_task())
            await trio.sleep(seconds)
            return "worked"

        @self.mcp.tool
        async def leave_open(seconds: float) -> str:
            self.left_open = trio.CancelScope(deadline=trio.current_time() + seconds)
            self.left_open.__enter__()
            return "left"

        @self.mcp.tool
        async def close(ctx: Context) -> str:
            assert ctx.session is not None
            ctx.session.close()
            return "closed"


async def tool(session: LiveSession, name: str, id: int | str = "once", **arguments: Any) -> Any:
    return await ask(session, "tools/call", {"name": name, "arguments": arguments}, id)


async def open_busy(hub: Hub, watched: Watched) -> LiveSession:
    """A session in which a call has left a task that waits; what is in `watched.tasks` comes after that."""
    session = await hub.open(OFFER, ANN)
    for _ in range(2):
        await tool(session, "note")
    watched.tasks.clear()
    return session


def text(result: dict[str, Any]) -> str:
    said: str = result["content"][0]["text"]
    return said


async def test_requests_that_follow_each_other_closely_share_a_task(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await hub.open(OFFER, ANN)
        for _ in range(5):
            await tool(session, "note")
    assert len(set(watched.tasks[1:])) == 1


async def test_requests_that_come_now_and_then_have_a_task_each_which_ends(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await hub.open(OFFER, ANN)
        for _ in range(3):
            await trio.sleep(BUSY_SECONDS + 0.1)
            await tool(session, "note")
            await wait_all_tasks_blocked()
            assert watched.tasks[-1] not in session_tasks(session)
    assert len(set(watched.tasks)) == 3


async def test_a_task_that_no_request_needs_ends_and_others_stay(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(tool, session, "work", number)
        for _ in range(30):
            await tool(session, "work", seconds=0.1)
        assert len(session_tasks(session)) == 1
        await trio.sleep(2 * BUSY_SECONDS + 0.1)
        assert not session_tasks(session)


async def test_a_task_that_waits_ends_with_a_call_that_comes_late(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        await trio.sleep(BUSY_SECONDS + 0.1)
        assert len(session_tasks(session)) == 1
        await tool(session, "note")
        await wait_all_tasks_blocked()
        assert len(set(watched.tasks)) == 1
        assert not session_tasks(session)


async def test_only_so_many_tasks_wait_in_a_session(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        async with trio.open_nursery() as nursery:
            for number in range(MOST_WAITING + 5):
                nursery.start_soon(tool, session, "work", number)
        await wait_all_tasks_blocked()
        assert len(session_tasks(session)) == MOST_WAITING


async def test_each_request_has_fresh_context_variables(autojump_clock: MockClock) -> None:
    watched = Watched()
    user.set("who opened the session")
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        assert [text(await tool(session, "note", user_name=name)) for name in "abc"] == ["nobody"] * 3
    assert len(set(watched.tasks)) == 1


async def test_a_cancelled_request_ends_alone_and_its_task_serves_the_next(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        for number in range(3):
            log = session.accept([call("work", number)], who=ANN, streams=True)
            await trio.sleep(0.5)
            session.receive(Notification("notifications/cancelled", {"requestId": number}))
            assert (await replies(log))[-1]["error"]["message"] == "Request cancelled"
            assert text(await tool(session, "work", seconds=0.5)) == "worked"
    assert len(set(watched.tasks)) == 1


async def test_a_request_is_cancelled_before_its_task_has_run(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        log = session.accept([call("work", 7)], who=ANN, streams=True)
        session.receive(Notification("notifications/cancelled", {"requestId": 7}))
        assert (await replies(log))[-1]["error"]["message"] == "Request cancelled"
        assert text(await tool(session, "work")) == "worked"


async def test_a_cancellation_that_comes_too_late_does_not_reach_the_next_request_of_the_task(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        await tool(session, "note", 1)
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        log = session.accept([call("work", 2)], who=ANN, streams=True)
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        await wait_all_tasks_blocked()
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        assert text((await replies(log))[-1]["result"]) == "worked"
    assert len(set(watched.tasks)) == 1


@pytest.mark.parametrize("seconds", [0.5, 3600])
async def test_a_scope_that_a_handler_leaves_open_is_a_crash_of_its_request_alone(
    autojump_clock: MockClock, seconds: float
) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        assert "Internal error" in (await tool(session, "leave_open", seconds=seconds))["message"]
        assert text(await tool(session, "work", seconds=0.9)) == "worked"
        watched.left_open.cancel()
        assert text(await tool(session, "work")) == "worked"
        assert session.closed_because is None


async def test_a_session_that_closes_ends_its_waiting_tasks(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        (task,) = session_tasks(session)
        session.close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        assert hub.local(session.id) is None
        assert task not in session_tasks(session)


async def test_a_handler_that_closes_its_session_ends_the_task_that_it_runs_in(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        log = session.accept([call("close", 1)], who=ANN, streams=True)
        assert (await replies(log))[-1]["id"] == 1
        await wait_all_tasks_blocked()
        assert not session_tasks(session)


async def test_a_request_that_comes_while_a_crash_ends_the_session_is_answered(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_hub(watched.mcp) as hub:
        session = await open_busy(hub, watched)
        logs = []

        async def crash() -> None:
            raise ValueError("mine")

        session.start_soon(crash)
        # The nursery is cancelled with this: its waiting tasks are woken, but have not run yet.
        session._nursery.cancel_scope.cancel()  # type: ignore[union-attr]
        logs.append(session.accept([call("work", 1)], who=ANN, streams=True))
        assert (await replies(logs[0]))[-1]["error"]["message"] == "The session was closed"


async def test_a_task_that_waits_keeps_nothing_of_its_last_request(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")
    seen: list[weakref.ref[Any]] = []

    class Large:
        pass

    @mcp.tool
    async def hold() -> None:
        large = Large()
        seen.append(weakref.ref(large))

    @mcp.tool
    async def note(ctx: Context) -> None:
        seen.append(weakref.ref(ctx))

    async with open_hub(mcp) as hub:
        session = await hub.open(OFFER, ANN)
        await tool(session, "hold")
        await tool(session, "note")
        await wait_all_tasks_blocked()
        assert session_tasks(session)
        assert [ref() for ref in seen] == [None, None]


def call(name: str, id: int | str) -> Request:
    return Request(id, "tools/call", {"name": name, "arguments": {}})


def session_tasks(session: LiveSession) -> list[trio.lowlevel.Task]:
    """Those of its nursery: no hook is registered, so all of them run requests, or wait for some."""
    return [] if session._nursery is None else list(session._nursery.child_tasks)
