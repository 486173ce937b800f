"""The streams of a session that goes on after its node was lost: nothing of them came along, and clients are told so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from tests.transports.http.harness import SessionClient, serving
from trio_mcp import Context, MCPServer
from trio_mcp.auth.principal import ANONYMOUS
from trio_mcp.sessions.directory import Snapshot


def server() -> MCPServer:
    mcp = MCPServer("x")

    @mcp.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Well?", {"type": "object", "properties": {}})
        return str(answer.action)

    @mcp.resource("a://{name}")
    async def read(name: str) -> str:
        return name

    return mcp


@asynccontextmanager
async def restored(mcp: MCPServer) -> AsyncIterator[SessionClient]:
    """The client of a session that subscribed to a resource on a node before, and lives on another one by now."""
    async with serving(mcp) as before:
        client = await before.open(capabilities={"elicitation": {}})
        await client.start("resources/subscribe", {"uri": "a://b"}).result()
        session = before.app.hub.local(client.id)
        assert session is not None
        left = session.snapshot()
    async with serving(mcp) as after:
        await after.app.hub.restore(next_life(left), ANONYMOUS)
        client.wire = after
        yield client


def next_life(left: Snapshot) -> Snapshot:
    """What a node that takes the session up starts from."""
    return replace(left, epoch=left.epoch + 1)


async def heard(client: SessionClient, last_event_id: str | None = None) -> list[tuple[str, Any]]:
    """Method and params of all that is said at once on the standalone stream."""
    stream = client.listen(last_event_id)
    found = []
    with trio.move_on_after(0.1):
        while (message := await stream.message()) is not None:
            found.append((message["method"], message.get("params")))
    stream.disconnect()
    await stream.raw.finished.wait()
    return found


ALL_CHANGED = [
    ("notifications/tools/list_changed", None),
    ("notifications/resources/list_changed", None),
    ("notifications/resources/updated", {"uri": "a://b"}),
]


@pytest.mark.parametrize("last", [None, "0.g.17", "0.g.0p3"])
async def test_a_standalone_stream_of_an_earlier_life_begins_anew_and_tells_once_what_may_have_changed(
    autojump_clock: trio.testing.MockClock, last: str | None
) -> None:
    async with restored(server()) as client:
        assert await heard(client, last) == ALL_CHANGED
        assert await heard(client) == []


@pytest.mark.parametrize("last", ["0.g.17", "0.g.0p3"])
async def test_who_still_names_an_event_of_an_earlier_life_has_received_nothing_of_this_one(
    autojump_clock: trio.testing.MockClock, last: str
) -> None:
    """What was written to its connection may have been lost on the way, for example in a balancer that ended."""
    async with restored(server()) as client:
        assert await heard(client, last) == ALL_CHANGED
        assert await heard(client, last) == ALL_CHANGED


@pytest.mark.requirement("L18", "gap-event-id-uniqueness")
async def test_events_of_a_restored_session_carry_an_epoch_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    async with restored(server()) as client:
        stream = client.listen()
        first = await stream.event()
        assert first is not None
        assert first["id"].startswith("1.g.")


async def test_a_call_that_ended_with_its_node_is_answered_by_an_error_and_its_stream_ends() -> None:
    async with restored(server()) as client:
        client.oracle.asked(7, "tools/call")
        stream = client.listen("0.3-i7.2")
        (error,) = await stream.messages()
        assert error["id"] == 7
        assert "may or may not" in error["error"]["message"]


async def test_the_answer_for_a_lost_call_can_be_heard_again() -> None:
    async with restored(server()) as client:
        client.oracle.asked("seven", "tools/call")
        stream = client.listen("0.3-sc2V2ZW4.2p1")
        ids = []
        while (event := await stream.event()) is not None:
            ids.append(event["id"])
        assert all(each.startswith("1.") for each in ids)
        (replayed,) = await client.listen(ids[0]).raw.messages()
        assert replayed["id"] == "seven"


@pytest.mark.requirement("L21")
@pytest.mark.parametrize("last", ["", "0.g", "x.g.1", "0.g.-1", "0.g.1 2", "0.4.1", "2.g.1", "1.9-i7.1", "0.3-s*.1"])
async def test_what_this_session_cannot_have_said_is_refused(last: str) -> None:
    async with restored(server()) as client:
        assert await client.listen(last).head() == 400


async def test_questions_of_two_lives_never_share_an_id(autojump_clock: trio.testing.MockClock) -> None:
    mcp = server()
    ids = set()
    async with serving(mcp) as wire:
        client = await wire.open(capabilities={"elicitation": {}})
        session = wire.app.hub.local(client.id)
        assert session is not None
        left = session.snapshot()
        ids |= {await asked(client) for _ in range(3)}
    for _ in range(3):
        async with serving(mcp) as wire:
            client.wire, left = wire, next_life(left)
            await wire.app.hub.restore(left, ANONYMOUS)
            ids |= {await asked(client) for _ in range(3)}
    assert len(ids) == 12
    # A client that counts in floating point still tells them apart.
    assert max(ids) < 2**53


async def asked(client: SessionClient) -> int:
    """The id of the question that a call puts."""
    call = client.tool("ask")
    question = await call.message()
    assert question["method"] == "elicitation/create"
    assert await client.reply(question["id"], {"action": "decline"}) == 202
    await call.result()
    return int(question["id"])


async def test_an_answer_to_a_question_of_an_earlier_life_answers_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with restored(server()) as client:
        call = client.tool("ask")
        question = await call.message()
        assert await client.reply(1, {"action": "accept", "content": {}}) == 202
        assert await client.reply(question["id"], {"action": "decline"}) == 202
        assert (await call.result())["content"][0]["text"] == "decline"
