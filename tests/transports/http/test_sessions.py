"""Whose a session is, what ends it, and what is said of it afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import Exchange, SessionClient, Wire, serving, two_users
from trio_mcp import Context, MCPServer, Options, Session
from trio_mcp.testing.asgi import asgi_client

ALICE: dict[str, str | None] = {"authorization": "Bearer alice"}
BOB: dict[str, str | None] = {"authorization": "Bearer bob"}


def three_ways(session: SessionClient, headers: dict[str, str | None] | None = None) -> list[Exchange]:
    """The session asked for by every HTTP method."""
    return [session.start("ping", headers=headers), session.listen(headers=headers), session.delete(headers)]


async def lost(exchange: Exchange) -> str:
    """The reason a 404 gives."""
    assert await exchange.head() == 404
    error = await exchange.error()
    assert error["code"] == -32001
    assert error["message"].startswith("Session not found: ")
    assert error["data"]["reinitialize"] is True
    reason: str = error["data"]["reason"]
    return reason


@pytest.mark.requirement("S5", "gap-delete-and-get", "gap-get-404")
async def test_an_unknown_session_is_404_on_every_method() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        for stranger in (
            "node.AAAAAAAAAAAAAAAAAAAAAAAA",
            "x",
            "../../etc",
            "\xe9\xff",
            session.id.upper(),
            session.id + "x",
        ):
            for exchange in three_ways(session, {"mcp-session-id": stranger}):
                assert await lost(exchange) == "unknown"
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("S5", "S6", "gap-delete-and-get", "weak-delete")
async def test_delete_ends_a_session_with_204_and_it_is_404_from_then_on() -> None:
    async with serving(MCPServer("test")) as wire:
        session, other = await wire.open(), await wire.open()
        assert await session.delete().nothing() == 204
        for exchange in three_ways(session):
            assert await lost(exchange) == "deleted"
        assert await other.start("ping").result() == {}


@pytest.mark.requirement("S7")
async def test_delete_answers_calls_in_flight_and_ends_streams_cleanly(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")
    stopped = trio.Event()

    @mcp.tool
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with serving(mcp) as wire:
        session = await wire.open()
        standalone, held, streaming = session.listen(), session.tool("wait"), session.tool("wait")
        await standalone.head()
        await streaming.head()
        assert await session.delete().nothing() == 204
        assert await standalone.messages() == []
        assert (await streaming.error())["message"] == "The session was closed"
        assert (await held.error())["message"] == "The session was closed"
        assert stopped.is_set()


async def test_a_session_is_gone_at_once_even_while_a_handler_of_it_takes_its_time(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
        return "done all the same"

    async with serving(mcp) as wire:
        session = await wire.open()
        call = session.tool("stubborn")
        await call.head()
        assert await session.delete().nothing() == 204
        for exchange in three_ways(session):
            assert await lost(exchange) == "deleted"
        assert len(wire.app.hub) == 1
        assert (await call.result())["content"][0]["text"] == "done all the same"


@pytest.mark.requirement("SB2", "S5")
async def test_an_unused_session_expires_and_says_so(autojump_clock: MockClock) -> None:
    async with serving(MCPServer("test"), session_idle_timeout=300) as wire:
        session = await wire.open()
        await trio.sleep(299)
        assert await session.start("ping").result() == {}
        await trio.sleep(299)
        assert await session.notify("notifications/initialized") == 202
        await trio.sleep(301)
        assert len(wire.app.hub) == 0
        for exchange in three_ways(session):
            assert await lost(exchange) == "expired"


async def test_a_call_in_flight_or_an_open_get_keeps_a_session_alive(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def nap() -> str:
        await trio.sleep(2_000)
        return "rested"

    async with serving(mcp, session_idle_timeout=300) as wire:
        calling, listening = await wire.open(), await wire.open()
        call, stream = calling.tool("nap"), listening.listen()
        await trio.sleep(1_500)
        assert len(wire.app.hub) == 2
        assert (await call.result())["content"][0]["text"] == "rested"
        await trio.sleep(301)
        assert len(wire.app.hub) == 1
        stream.disconnect()
        await trio.sleep(299)
        assert len(wire.app.hub) == 1
        await trio.sleep(2)
        assert len(wire.app.hub) == 0


async def test_a_crash_of_a_sessions_task_ends_that_session_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("test")
    crash = trio.Event()

    @mcp.on_session
    async def background(session: Session) -> None:
        seen.append(session.id)
        if len(seen) == 1:
            await crash.wait()
            raise ZeroDivisionError("by design")

    seen: list[str] = []
    async with serving(mcp) as wire:
        doomed, other = await wire.open(), await wire.open()
        assert seen == [doomed.id, other.id]
        stream = doomed.listen()
        await stream.head()
        crash.set()
        assert await stream.messages() == []
        for exchange in three_ways(doomed):
            assert await lost(exchange) == "crashed"
        assert await other.start("ping").result() == {}
    assert [record.levelname for record in caplog.records if record.message == "session crashed"] == ["ERROR"]


@pytest.mark.requirement("SB3", "SB5", "gap-session-user-binding")
async def test_a_session_of_somebody_else_looks_as_if_it_never_was() -> None:
    async with serving(MCPServer("test"), authenticate=two_users) as wire:
        session = await wire.open(headers=ALICE)
        foreign = [await _body(exchange) for exchange in three_ways(session, BOB)]
        nobody = {**BOB, "mcp-session-id": "node.AAAAAAAAAAAAAAAAAAAAAAAA"}
        unknown = [await _body(exchange) for exchange in three_ways(session, nobody)]
        assert [it["error"] for it in foreign] == [it["error"] for it in unknown]
        assert await session.start("ping").result() == {}
        assert await session.delete().nothing() == 204
        assert {await lost(it) for it in three_ways(session, BOB)} == {"unknown"}
        assert {await lost(it) for it in three_ways(session)} == {"deleted"}


async def _body(exchange: Exchange) -> Any:
    assert await exchange.head() == 404
    return await exchange.json()


@pytest.mark.requirement("SB5", "gap-session-user-binding")
async def test_a_stream_of_somebody_else_cannot_be_resumed(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def secret() -> str:
        await trio.sleep(1)
        return "alice's"

    async with serving(mcp, authenticate=two_users) as wire:
        alice, bob = await wire.open(headers=ALICE), await wire.open(headers=BOB)
        event = await alice.tool("secret").event()
        assert event is not None
        assert await alice.listen(event["id"], BOB).head() == 404
        # The same event id in bob's own session is of no stream there.
        assert await bob.listen(event["id"]).head() == 400
        assert (await alice.listen(event["id"]).result())["content"][0]["text"] == "alice's"


async def test_a_session_takes_only_so_many_requests_at_once() -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def wait() -> None:
        await trio.sleep_forever()

    async with serving(mcp, options=Options(max_in_flight=2)) as wire:
        session = await wire.open()
        session.tool("wait")
        session.tool("wait")
        await wait_all_tasks_blocked()
        one_more = session.start("ping", id="third")
        assert await one_more.head() == 429
        assert (await one_more.json())["id"] == "third"
        assert one_more.headers["retry-after"] == "1"
        assert await session.notify("notifications/cancelled", {"requestId": 1}) == 202
        await wait_all_tasks_blocked()
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("J3")
async def test_an_id_that_is_in_flight_cannot_be_used_again_until_it_is_answered() -> None:
    mcp = MCPServer("test")
    go = trio.Event()

    @mcp.tool
    async def wait() -> str:
        await go.wait()
        return "first"

    async with serving(mcp) as wire:
        session, other = await wire.open(), await wire.open()
        first = session.tool("wait", id=7)
        await wait_all_tasks_blocked()
        again = session.start("tools/call", {"name": "wait"}, id=7)
        assert await again.head() == 400
        assert (await again.error())["code"] == -32600
        assert await session.start("ping", id="7").result() == {}
        assert await other.start("ping", id=7).result() == {}
        go.set()
        assert (await first.result())["content"][0]["text"] == "first"
        assert await session.start("ping", id=7).result() == {}


async def test_a_handler_does_not_inherit_the_context_of_the_request_that_carried_it() -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def who(ctx: Context) -> str:
        return ctx.principal.subject

    async with serving(mcp, authenticate=two_users) as wire:
        for user, headers in (("alice", ALICE), ("bob", BOB)):
            session = await wire.open(headers=headers)
            assert (await session.tool("who").result())["content"][0]["text"] == user
            modern = wire.modern(headers=headers)
            assert (await modern.tool("who").result())["content"][0]["text"] == user


async def test_the_end_of_the_server_answers_what_is_in_flight(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def wait() -> None:
        await trio.sleep_forever()

    app = mcp.http_app()
    async with asgi_client(app) as client:
        async with app.running():
            wire = Wire(app, client)
            session = await wire.open()
            call, stream = session.tool("wait"), session.listen()
            await stream.head()
            await call.head()
        assert await stream.messages() == []
        assert (await call.error())["message"] == "The server is shutting down"
