"""How a WebSocket ends: by its client, by its session, by the clock, by what it may not do, and by a client that reads nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.websocket.harness import Door, WebSocket, offering
from trio_mcp import Context, MCPServer, Session
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.transports.websocket.closing import MOST_REASON_BYTES, by_session


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test")
    mcp.cancelled = []  # type: ignore[attr-defined]

    @mcp.tool
    async def after(seconds: float) -> str:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            mcp.cancelled.append("call")  # type: ignore[attr-defined]
            raise
        return f"after {seconds:g}"

    @mcp.tool
    async def chatter(ctx: Context) -> str:
        for number in range(1_000):
            await ctx.info("x" * 10_000 + str(number))
        return "done"

    @mcp.on_session
    async def hold(session: Session) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            mcp.cancelled.append("session")  # type: ignore[attr-defined]
            raise

    return mcp


def metric(door: Door, name: str, **labels: str) -> float:
    return door.app.service.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.requirement("ws-29")
@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "deleted"), (1001, "deleted"), (1005, "deleted"), (1006, "gone"), (4000, "gone")]
)
async def test_when_the_client_leaves_its_calls_and_its_session_end(
    mcp: Any, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_mcp")
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.call("after", seconds=60)
        socket.call_modern("after", seconds=60)
        await wait_all_tasks_blocked()
        socket.leave(code)
        await socket.finished.wait()
        await wait_all_tasks_blocked()
        assert sorted(mcp.cancelled) == ["call", "call", "session"]
        assert len(door.app.hub) == 0
        assert socket.closed is None
        assert metric(door, "trio_mcp_sessions_closed_total", reason=reason) == 1
        label = str(code) if code < 2000 else "other"
        assert metric(door, "trio_mcp_websockets_closed_total", code=label) == 1
        assert metric(door, "trio_mcp_websockets_active") == 0
        assert metric(door, "trio_mcp_websocket_messages_total", direction="in") == 4
        assert metric(door, "trio_mcp_websocket_messages_total", direction="out") == 1
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG, logging.INFO}


async def test_its_end_does_not_wait_for_a_client_that_is_gone_while_much_is_unread(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.reads = trio.Event()
        socket.call("chatter")
        await wait_all_tasks_blocked()
        socket.leave(1006)
        await socket.finished.wait()
        await wait_all_tasks_blocked()
        assert door.app.service.account.used == 0


@pytest.mark.requirement("ws-14")
@pytest.mark.parametrize(("message", "code"), [(b"{}", 1003), ("x" * 1_001, 1009), ("\U0001f600" * 251, 1009)])
async def test_what_is_no_message_closes_the_connection(mcp: MCPServer, message: Any, code: int) -> None:
    async with offering(mcp, max_body=1_000) as door:
        socket = await door.connect()
        socket.say(message)
        await socket.finished.wait()
        assert socket.closed is not None
        assert socket.closed[0] == code


async def test_what_runs_is_answered_before_the_server_closes(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.call("after", id="legacy", seconds=60)
        socket.call_modern("after", id="modern", seconds=60)
        socket.start_modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="listen")
        assert (await socket.hear(modern=True))["method"] == "notifications/subscriptions/acknowledged"
        socket.say(b"binary")
        answers = {answer["id"]: answer for answer in await socket.rest()}
        assert {name: "error" in answer for name, answer in answers.items()} == {
            "legacy": True,
            "modern": True,
            "listen": False,
        }
        assert answers["modern"]["error"]["message"] == "The session was closed"
        await socket.finished.wait()
        assert socket.closed == (1003, "a message is a text frame")


async def test_a_message_of_the_largest_size_is_taken(mcp: MCPServer) -> None:
    async with offering(mcp, max_body=1_000) as door:
        socket = await door.connect()
        socket.say(" " * 994 + "\U0001f600" + "{}")
        assert (await socket.hear())["error"]["code"] == -32700


@pytest.mark.requirement("ws-31")
@pytest.mark.parametrize(
    ("end", "closed"),
    [
        (lambda session: session.close(CloseReason.DELETED), (1008, "an operator ended the session")),
        (lambda session: session.user_session.close(), (1000, "the server ended the session")),
        (lambda session: session.user_session.start_soon(crash), (1011, "a task of the session failed")),
    ],
)
async def test_a_session_that_ends_takes_its_connection_along(
    mcp: MCPServer, end: Callable[[Any], None], closed: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.call("after", seconds=60, id="l")
        socket.call_modern("after", seconds=60, id="m")
        listens = socket.start_modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        await socket.hear(modern=True)
        await wait_all_tasks_blocked()
        (session,) = door.app.hub.sessions
        end(session)
        answers = {message["id"]: message for message in await socket.rest() if "id" in message}
        assert answers.keys() == {"l", "m", listens}
        for each in ("l", "m"):
            assert answers[each]["error"]["code"] == -32603
        assert "result" in answers[listens]
        await socket.finished.wait()
        assert socket.closed == closed


async def crash() -> None:
    raise ZeroDivisionError


@pytest.mark.requirement("ws-31")
async def test_a_hook_that_crashes_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("test")

    @mcp.on_session
    async def hook(session: Session) -> None:
        raise ZeroDivisionError

    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        await socket.finished.wait()
        assert socket.closed == (1011, "a task of the session failed")


@pytest.mark.parametrize("session", [True, False])
async def test_a_connection_that_nobody_uses_ends(mcp: MCPServer, session: bool, autojump_clock: MockClock) -> None:
    async with offering(mcp, session_idle_timeout=100) as door:
        socket = await door.connect()
        if session:
            await socket.open()
        else:
            socket.start("ping")
            await socket.hear()
        socket.call_modern("after", seconds=1_000)
        assert "result" in await socket.hear()
        ended = trio.current_time()
        await socket.finished.wait()
        assert socket.closed == (1000, "idle")
        assert 99 < trio.current_time() - ended < 101


async def test_who_listens_is_not_idle(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp, session_idle_timeout=100) as door:
        socket = await door.connect()
        socket.start_modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        await trio.sleep(1_000)
        assert not socket.finished.is_set()


@pytest.mark.requirement("ws-25")
async def test_what_waits_for_a_client_that_does_not_read_is_bounded(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        stuck, other = await door.connect(), await door.connect()
        for socket in (stuck, other):
            await socket.open()
        stuck.reads = trio.Event()
        stuck.call("chatter")
        await wait_all_tasks_blocked()
        assert door.app.service.account.used < 2 << 20
        other.start("ping")
        assert (await other.hear())["result"] == {}


async def test_on_another_server_a_client_that_takes_nothing_is_cut(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp) as door:
        socket = await door.knock("mcp", extensions=["websocket.http.response"])
        socket.start("ping")
        await socket.hear()
        socket.reads = trio.Event()
        socket.start("ping")
        await socket.finished.wait()
        assert socket.closed is None
        assert metric(door, "trio_mcp_websockets_closed_total", code="1006") == 1


async def test_a_client_that_goes_on_sending_and_never_reads_is_cut(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.reads = trio.Event()
        for _ in range(2_100):
            socket.say("{")
        await socket.finished.wait()
        assert socket.aborted
        assert metric(door, "trio_mcp_sessions_closed_total", reason="overflow") == 1


def test_every_reason_fits_into_a_close_frame_with_a_code_that_may_be_sent() -> None:
    for reason in CloseReason:
        close = by_session(reason)
        assert len(close.reason.encode()) <= MOST_REASON_BYTES
        assert close.aborted or close.code in {1000, 1001, 1008, 1011}


async def test_the_app_is_cancelled(mcp: MCPServer) -> None:
    """As by a server that stops: nothing of the connection is left."""
    async with offering(mcp) as door:
        async with trio.open_nursery() as nursery:
            socket = await Door(door.app, nursery).connect()
            await socket.open()
            nursery.cancel_scope.cancel("the server stops")
        await wait_all_tasks_blocked()
        assert len(door.app.hub) == 0
        assert isinstance(socket, WebSocket)
        assert metric(door, "trio_mcp_websockets_active") == 0
