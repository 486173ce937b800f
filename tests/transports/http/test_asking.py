"""Requests of the server to its client, on the stream of the call that caused them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock

from tests.transports.http.harness import JSON, LEGACY, OLDER, Exchange, serving
from trio_mcp import ClientCallError, Context, MCPServer, Options

ASKABLE = ["2025-06-18", LEGACY]
EVERYTHING: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}


class Booking(BaseModel):
    date: str
    guests: int = 2


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test", options=Options(request_timeout=60))

    @mcp.tool
    async def book(ctx: Context) -> str:
        answer = await ctx.elicit("When?", Booking)
        return f"{answer.action} {answer.data.date if answer.data else None}"

    @mcp.tool
    async def sign(ctx: Context) -> str:
        return (await ctx.elicit_url("Sign here", "https://sign.example/1")).action

    @mcp.tool
    async def summarise(ctx: Context) -> str:
        answer = await ctx.sample("Sum up", max_tokens=9)
        return f"{answer.model}: {answer.content}"

    @mcp.tool
    async def where(ctx: Context) -> list[str]:
        return [root.uri for root in await ctx.list_roots()]

    @mcp.tool
    async def careful(ctx: Context) -> str:
        try:
            await ctx.list_roots()
        except ClientCallError as fault:
            return f"{type(fault).__name__}: {fault}"
        return "answered"

    @mcp.prompt
    async def tour(ctx: Context) -> str:
        return f"Show me {(await ctx.list_roots())[0].uri}"

    return mcp


async def question(exchange: Exchange, method: str) -> dict[str, Any]:
    """The next message, which has to be a request."""
    message: dict[str, Any] = await exchange.message()
    assert message["method"] == method
    assert isinstance(message["id"], int | str)
    return message


def text(result: Any) -> str:
    found: str = result["content"][0]["text"]
    return found


@pytest.mark.requirement("RQ1", "EL1", "EL3", "EL5")
@pytest.mark.parametrize("version", ASKABLE)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"action": "accept", "content": {"date": "May 1", "guests": 3}}, "accept May 1"),
        ({"action": "decline"}, "decline None"),
        ({"action": "cancel"}, "cancel None"),
    ],
)
async def test_an_elicitation_rides_on_the_stream_of_its_call(
    mcp: MCPServer, version: str, answer: dict[str, Any], said: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version, {"elicitation": {}})
        standalone, call = session.listen(), session.tool("book")
        asked = await question(call, "elicitation/create")
        assert asked["params"]["message"] == "When?"
        assert asked["params"]["requestedSchema"]["properties"]["date"]["type"] == "string"
        assert ("default" in asked["params"]["requestedSchema"]["properties"]["guests"]) == (version == LEGACY)
        assert await session.reply(asked["id"], answer) == 202
        assert text(await call.result()) == said
        await session.delete().head()
        assert await standalone.messages() == []


async def test_a_reply_that_nobody_waits_for_is_accepted_and_noted(
    mcp: MCPServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(mcp) as wire:
        session = await wire.open(LEGACY, EVERYTHING)
        call = session.tool("book")
        asked = await question(call, "elicitation/create")
        for each in (asked["id"], asked["id"], 12345, "x"):
            assert await session.reply(each, {"action": "decline"}) == 202
        await call.result()
    lines = [record for record in caplog.records if record.message == "reply that nobody waits for"]
    assert len(lines) == 3
    assert all("session" in record.mcp_fields for record in lines)  # type: ignore[attr-defined]


@pytest.mark.requirement("EL7", "EL8")
async def test_a_url_elicitation_has_an_id_and_no_form(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("sign")
        asked = await question(call, "elicitation/create")
        assert asked["params"]["mode"] == "url"
        assert asked["params"]["url"] == "https://sign.example/1"
        assert asked["params"]["elicitationId"]
        assert "requestedSchema" not in asked["params"]
        assert await session.reply(asked["id"], {"action": "accept"}) == 202
        assert text(await call.result()) == "accept"


@pytest.mark.requirement("EL6")
@pytest.mark.parametrize(
    "answer",
    [
        {"action": "accept", "content": {"guests": 3}},
        {"action": "accept"},
        {"action": "perhaps"},
        {},
        [],
        "accept",
        None,
    ],
)
async def test_an_answer_that_does_not_fit_the_form_is_the_calls_failure_not_its_input(
    mcp: MCPServer, answer: Any
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("book")
        asked = await question(call, "elicitation/create")
        assert await session.reply(asked["id"], answer) == 202
        assert (await call.result())["isError"] is True


@pytest.mark.requirement("SA1", "SA2", "RQ1")
@pytest.mark.parametrize("version", [*OLDER, LEGACY])
async def test_sampling_rides_on_the_stream_of_its_call(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version, {"sampling": {}})
        call = session.tool("summarise")
        asked = await question(call, "sampling/createMessage")
        assert asked["params"]["maxTokens"] == 9
        assert asked["params"]["messages"] == [{"role": "user", "content": {"type": "text", "text": "Sum up"}}]
        message = {"role": "assistant", "content": {"type": "text", "text": "short"}, "model": "m1"}
        assert await session.reply(asked["id"], message) == 202
        assert text(await call.result()).startswith("m1: ")


@pytest.mark.requirement("RO1", "RQ1")
@pytest.mark.parametrize("version", [*OLDER, LEGACY])
async def test_roots_are_asked_for_on_the_stream_of_the_call(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version, {"roots": {}})
        call = session.start("prompts/get", {"name": "tour"})
        asked = await question(call, "roots/list")
        assert await session.reply(asked["id"], {"roots": [{"uri": "file:///home", "name": "home"}]}) == 202
        assert (await call.result())["messages"][0]["content"]["text"] == "Show me file:///home"


@pytest.mark.requirement("I10", "I5", "EL2", "SA1", "RO1")
@pytest.mark.parametrize("tool", ["book", "sign", "summarise", "where"])
async def test_a_client_that_did_not_declare_it_is_never_asked(mcp: MCPServer, tool: str) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        (answer,) = [await session.tool(tool).json()]
        assert answer["result"]["isError"] is True
        assert "did not declare" in text(answer["result"])


@pytest.mark.requirement("EL2")
async def test_a_client_with_forms_alone_is_not_sent_to_a_url(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities={"elicitation": {}})
        assert (await session.tool("sign").result())["isError"] is True


@pytest.mark.requirement("EL1", "I5")
@pytest.mark.parametrize(("version", "tool"), [("2025-03-26", "book"), ("2025-03-26", "sign"), ("2025-06-18", "sign")])
async def test_what_the_negotiated_version_does_not_have_is_not_asked_whatever_the_client_declared(
    mcp: MCPServer, version: str, tool: str
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version, EVERYTHING)
        assert (await session.tool(tool).json())["result"]["isError"] is True


async def test_a_client_that_takes_no_stream_cannot_be_asked_and_the_call_says_so(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        result = (await session.tool("careful", headers={"accept": JSON}).json())["result"]
        assert text(result).startswith("NoBackChannel")


@pytest.mark.requirement("SA5")
async def test_a_clients_error_reaches_the_handler(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("careful")
        asked = await question(call, "roots/list")
        assert await session.refuse(asked["id"], -32601, "no roots here") == 202
        assert "no roots here" in text(await call.result())


@pytest.mark.requirement("I8")
async def test_a_client_that_does_not_answer_is_told_that_nobody_waits_any_more(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("careful")
        asked = await question(call, "roots/list")
        withdrawn, answer = await call.messages()
        assert withdrawn["method"] == "notifications/cancelled"
        assert withdrawn["params"]["requestId"] == asked["id"]
        assert text(answer["result"]).startswith("ClientTimeout")
        assert trio.current_time() == pytest.approx(60)
        # Too late, and nobody minds.
        assert await session.reply(asked["id"], {"roots": []}) == 202


@pytest.mark.requirement("C1")
async def test_a_cancelled_call_withdraws_its_question(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("book", id=1)
        asked = await question(call, "elicitation/create")
        assert await session.notify("notifications/cancelled", {"requestId": 1}) == 202
        withdrawn, answer = await call.messages()
        assert withdrawn["params"]["requestId"] == asked["id"]
        assert "error" in answer


@pytest.mark.requirement("gap-session-user-binding")
async def test_one_session_cannot_answer_what_another_was_asked(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        mine, yours = await wire.open(capabilities=EVERYTHING), await wire.open(capabilities=EVERYTHING)
        call, other = mine.tool("book"), yours.tool("book")
        asked = await question(call, "elicitation/create")
        await question(other, "elicitation/create")
        assert await yours.reply(asked["id"], {"action": "decline"}) == 202
        assert await mine.reply(asked["id"], {"action": "accept", "content": {"date": "mine"}}) == 202
        assert text(await call.result()) == "accept mine"


@pytest.mark.requirement("RQ1", "L16")
async def test_a_question_asked_while_the_client_was_away_waits_on_its_stream(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    @mcp.tool
    async def late(ctx: Context) -> str:
        await trio.sleep(10)
        return (await ctx.elicit("Still there?", Booking)).action

    async with serving(mcp) as wire:
        session = await wire.open(capabilities=EVERYTHING)
        call = session.tool("late")
        event = await call.event()
        assert event is not None
        call.disconnect()
        await trio.sleep(20)
        resumed = session.listen(event["id"])
        asked = await question(resumed, "elicitation/create")
        assert await session.reply(asked["id"], {"action": "cancel"}) == 202
        assert text(await resumed.result()) == "cancel"
