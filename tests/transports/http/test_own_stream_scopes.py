"""What a session's own stream carries of guarded components is read with a token that may use them, and with no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock

from tests.transports.http.harness import JSON, SessionClient, request, serving
from tests.transports.http.test_component_scopes import READ, WRITE, refused, server
from trio_mcp import Context, MCPServer
from trio_mcp.auth import require_scopes
from trio_mcp.auth.checks import Requirements
from trio_mcp.transports.http.permission import also_asked, asked_by_subscriptions

NEEDS = "The stream needs mcp:write"


def talking() -> MCPServer:
    mcp = server([])

    @mcp.tool
    async def open_words(ctx: Context) -> str:
        await ctx.warning("open")
        return ""

    @mcp.tool(auth=require_scopes("mcp:write"))
    async def guarded_words(ctx: Context) -> str:
        await ctx.warning("secret")
        return ""

    return mcp


async def call_for_json(session: SessionClient, tool: str, headers: dict[str, str]) -> None:
    """A call whose log message goes to the session's own stream."""
    session.oracle.asked(9, "tools/call")
    answer = session.post(request(9, "tools/call", {"name": tool, "arguments": {}}), {**headers, "accept": JSON})
    assert await answer.head() == 200
    await answer.json()


async def ended_without_a_word(stream: Any) -> bool:
    """Whether the stream ends with nothing but when to come back."""
    left = []
    while (fields := await stream.event()) is not None:
        left.append(fields)
    return all(set(fields) <= {"retry", "id", "data"} and not fields.get("data") for fields in left)


async def subscribe(session: SessionClient, uri: str, headers: dict[str, str]) -> None:
    assert await session.start("resources/subscribe", {"uri": uri}, headers=headers).head() == 200


@pytest.mark.requirement("auth-48")
async def test_log_messages_of_a_guarded_call_are_read_with_its_scopes(autojump_clock: MockClock) -> None:
    async with serving(talking()) as wire:
        session = await wire.open(headers=READ)
        await call_for_json(session, "open_words", READ)
        plain = session.listen(headers=READ)
        assert (await plain.message())["params"]["data"] == "open"
        await call_for_json(session, "guarded_words", WRITE)
        assert await ended_without_a_word(plain), "it was opened with a token that has less"
        assert await refused(session.listen(headers=READ), None) == NEEDS
        assert (await session.listen(headers=WRITE).message())["params"]["data"] == "secret"


async def test_a_guarded_call_with_a_stream_of_its_own_asks_nothing_of_the_sessions(autojump_clock: MockClock) -> None:
    async with serving(talking()) as wire:
        session = await wire.open(headers=READ)
        assert len(await session.tool("guarded_words", headers=WRITE).messages()) == 2
        assert await session.listen(headers=READ).head() == 200


@pytest.mark.requirement("auth-40")
async def test_updates_of_a_guarded_resource_are_read_with_its_scopes(autojump_clock: MockClock) -> None:
    mcp = talking()
    async with serving(mcp) as wire:
        session = await wire.open(headers=READ)
        narrow = session.listen(headers=READ)
        assert await narrow.head() == 200
        await subscribe(session, "a://guarded", WRITE)
        mcp.notify_resource_updated("a://guarded")
        assert await ended_without_a_word(narrow)
        assert await refused(session.listen(headers=READ), None) == NEEDS
        told = session.listen(headers=WRITE)
        assert (await told.message())["params"]["uri"] == "a://guarded"
        await subscribe(session, "a://guarded", WRITE)
        mcp.notify_resource_updated("a://guarded")
        assert (await told.message())["params"]["uri"] == "a://guarded", "what was asked before ends no stream"


@pytest.mark.requirement("auth-45")
@pytest.mark.parametrize("takes", [JSON, f"{JSON}, text/event-stream"])
async def test_a_batch_asks_for_all_that_its_elements_do(takes: str, autojump_clock: MockClock) -> None:
    async with serving(talking()) as wire:
        session = await wire.open("2025-03-26", headers=READ)
        session.oracle.asked(1, "tools/call")
        session.oracle.asked(2, "resources/subscribe")
        call = request(1, "tools/call", {"name": "open_words", "arguments": {}})
        batch = [call, request(2, "resources/subscribe", {"uri": "a://guarded"})]
        assert await session.post(batch, {**WRITE, "accept": takes}).head() == 200
        assert await refused(session.listen(headers=READ), None) == NEEDS


async def test_a_session_that_was_restored_asks_for_what_its_subscriptions_do(autojump_clock: MockClock) -> None:
    async with serving(talking()) as wire:
        session = await wire.open(headers=READ)
        await subscribe(session, "a://people/ann", WRITE)
        (restored,) = wire.app.hub.sessions
        restored.streams.standalone.asked = ()
        assert await refused(session.listen(headers=READ), None) == NEEDS


def test_subscriptions_ask_what_lies_at_and_below_their_uris() -> None:
    service: Any = SimpleNamespace(registry=talking().registry)
    write = Requirements(("mcp:write",))
    assert set(asked_by_subscriptions(service, ["a://guarded", "a://people/1"])) == {write}
    assert set(asked_by_subscriptions(service, ["b://open"])) == set()
    assert set(asked_by_subscriptions(SimpleNamespace(registry=MCPServer("x").registry), ["a://guarded"])) == set()  # type: ignore[arg-type]


def test_what_is_asked_already_sends_no_reader_away() -> None:
    closed = []
    log: Any = SimpleNamespace(asked=(), is_read=True, close_reader=lambda: closed.append(1))
    write, delete = Requirements(("mcp:write",)), Requirements(("mcp:delete",))
    for asked in ([write], [write], [], [write, delete], [delete]):
        also_asked(log, asked)
    assert (log.asked, len(closed)) == ((write, delete), 2)
    log.is_read = False
    also_asked(log, [Requirements(("mcp:admin",))])
    assert len(closed) == 2
