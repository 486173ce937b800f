"""Multi round-trip requests: a modern handler's question ends the call, the retry brings the answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock

from tests.transports.http.harness import ModernClient, serving, two_users
from trio_mcp import Context, MCPServer, Options

ABLE: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}


class Size(BaseModel):
    size: int


@pytest.fixture
def runs() -> list[str]:
    """What handlers did, over all rounds."""
    return []


@pytest.fixture
def mcp(runs: list[str]) -> MCPServer:
    mcp = MCPServer("test", options=Options(request_state_ttl=60))

    @mcp.tool
    async def order(item: str, ctx: Context) -> str:
        runs.append("start")
        size = await ctx.elicit("Size?", Size)
        if not size.accepted:
            return f"no {item}"
        where = (await ctx.list_roots())[0].uri
        runs.append("end")
        return f"{item} {size.data.size if size.data else 0} to {where}"

    @mcp.tool
    async def together(ctx: Context) -> str:
        answers: dict[str, Any] = {}

        async def one(key: str) -> None:
            answers[key] = (await ctx.elicit(f"{key}?", Size, key=key)).action

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "left")
            nursery.start_soon(one, "right")
        return " ".join(f"{key}={answers[key]}" for key in sorted(answers))

    @mcp.tool
    async def sign(ctx: Context) -> str:
        return (await ctx.elicit_url("Sign", "https://sign.example/1")).action

    @mcp.prompt
    async def tour(ctx: Context, place: str = "") -> str:
        return (await ctx.list_roots())[0].uri

    @mcp.resource("note://mine")
    async def mine(ctx: Context) -> str:
        return (await ctx.elicit("Really?", Size)).action

    @mcp.completion("tour", "place")
    async def places(value: str) -> list[str]:
        return [value]

    return mcp


ACCEPTED = {"action": "accept", "content": {"size": 4}}
ROOTS = {"roots": [{"uri": "file:///home"}]}


async def ask(client: ModernClient, method: str = "tools/call", **params: Any) -> dict[str, Any]:
    """A first round that asks something."""
    params = params or {"name": "order", "arguments": {"item": "shoe"}}
    result: dict[str, Any] = await client.start(method, params).result()
    assert result["resultType"] == "input_required"
    return result


def answered(round: dict[str, Any], *answers: Any) -> dict[str, Any]:
    """What a retry carries."""
    keys = round["inputRequests"]
    return {"inputResponses": dict(zip(keys, answers, strict=True)), "requestState": round["requestState"]}


@pytest.mark.requirement("R1", "R2", "R3", "R4", "R6", "R11")
async def test_a_handler_asks_twice_and_gets_both_answers(mcp: MCPServer, runs: list[str]) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        params: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}}
        first = await ask(client)
        ((key, asked),) = first["inputRequests"].items()
        assert set(asked) == {"method", "params"}
        assert asked["method"] == "elicitation/create"
        second = await ask(client, **params, **answered(first, ACCEPTED))
        ((other, asked),) = second["inputRequests"].items()
        assert other != key
        assert asked["method"] == "roots/list"
        result = await client.start("tools/call", {**params, **answered(second, ROOTS)}).result()
        assert result["resultType"] == "complete"
        assert result["content"][0]["text"] == "shoe 4 to file:///home"
        assert runs == ["start", "start", "start", "end"]


@pytest.mark.requirement("R6", "P5")
async def test_the_retry_may_reach_another_server_that_shares_the_secret(mcp: MCPServer) -> None:
    params: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}}
    async with serving(mcp, secrets=[b"shared"]) as wire:
        first = await ask(wire.modern(ABLE))
    async with serving(mcp, secrets=[b"new", b"shared"]) as wire:
        second = await ask(wire.modern(ABLE), **params, **answered(first, ACCEPTED))
    async with serving(mcp, secrets=[b"new"]) as wire:
        exchange = wire.modern(ABLE).start("tools/call", {**params, **answered(second, ROOTS)})
        assert (await exchange.result())["content"][0]["text"] == "shoe 4 to file:///home"
        stale = wire.modern(ABLE).start("tools/call", {**params, **answered(first, ACCEPTED)})
        assert (await stale.error())["code"] == -32602


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_no_is_an_answer(mcp: MCPServer, action: str) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client)
        params: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}, **answered(first, {"action": action})}
        assert (await client.start("tools/call", params).result())["content"][0]["text"] == "no shoe"


@pytest.mark.requirement("R4")
async def test_questions_asked_at_the_same_time_travel_together(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client, name="together")
        assert set(first["inputRequests"]) == {"left", "right"}
        responses = {"left": ACCEPTED, "right": {"action": "decline"}}
        retry = {"name": "together", "inputResponses": responses, "requestState": first["requestState"]}
        assert (await client.start("tools/call", retry).result())["content"][0]["text"] == "left=accept right=decline"


@pytest.mark.requirement("R10")
async def test_an_answer_that_is_missing_is_asked_for_again_and_unknown_ones_are_ignored(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client, name="together")
        half = {
            "name": "together",
            "inputResponses": {"left": ACCEPTED, "what": {}},
            "requestState": first["requestState"],
        }
        second = await ask(client, **half)
        assert set(second["inputRequests"]) == {"right"}
        rest = {"name": "together", **answered(second, ACCEPTED)}
        assert (await client.start("tools/call", rest).result())["content"][0]["text"] == "left=accept right=accept"


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("responses", [[], "x", {"q1": 5}, {"q1": None}, False])
async def test_malformed_answers_are_refused(mcp: MCPServer, responses: Any) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client)
        params: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}, "inputResponses": responses}
        exchange = client.start("tools/call", {**params, "requestState": first["requestState"]})
        assert await exchange.head() == 400
        assert (await exchange.error())["code"] == -32602


@pytest.mark.requirement("R7", "gap-requeststate-binding")
async def test_a_tampered_state_is_refused_and_no_handler_runs(mcp: MCPServer, runs: list[str]) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client)
        state = first["requestState"]
        flipped = [state[:at] + ("A" if state[at] != "A" else "B") + state[at + 1 :] for at in range(0, len(state), 7)]
        for forged in [*flipped, state + "A", state[:-1], state + "=", "", "x", "é", 5, {}, [state]]:
            params = {
                "name": "order",
                "arguments": {"item": "shoe"},
                **answered(first, ACCEPTED),
                "requestState": forged,
            }
            exchange = client.start("tools/call", params)
            assert await exchange.head() == 400, forged
            assert (await exchange.error())["code"] == -32602
        assert runs == ["start"]


@pytest.mark.requirement("R8", "SB3", "gap-requeststate-binding")
async def test_a_state_is_good_for_its_request_alone(mcp: MCPServer) -> None:
    async with serving(mcp, authenticate=two_users) as wire:
        alice = wire.modern(ABLE, headers={"authorization": "Bearer alice"})
        bob = wire.modern(ABLE, headers={"authorization": "Bearer bob"})
        given: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}}
        first = await ask(alice)
        retry = answered(first, ACCEPTED)
        others: list[tuple[ModernClient, str, dict[str, Any]]] = [
            (bob, "tools/call", given),
            (alice, "tools/call", {"name": "order", "arguments": {"item": "boat"}}),
            (alice, "tools/call", {"name": "together", "arguments": {"item": "shoe"}}),
            (alice, "prompts/get", {"name": "tour"}),
            (alice, "resources/read", {"uri": "note://mine"}),
        ]
        for client, method, params in others:
            assert (await client.start(method, {**params, **retry}).error())["code"] == -32602
        await ask(alice, **given, **retry)


@pytest.mark.requirement("R8", "gap-requeststate-ttl")
async def test_a_state_expires(mcp: MCPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("trio_mcp.auth.keyring.time.time", lambda: now)
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client)
        params: dict[str, Any] = {"name": "order", "arguments": {"item": "shoe"}, **answered(first, ACCEPTED)}
        now += 60
        await ask(client, **params)
        now += 1
        assert (await client.start("tools/call", params).error())["code"] == -32602


@pytest.mark.requirement("R2")
async def test_prompts_and_resources_may_ask_too(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = wire.modern(ABLE)
        first = await ask(client, "prompts/get", name="tour")
        result = await client.start("prompts/get", {"name": "tour", **answered(first, ROOTS)}).result()
        assert result["messages"][0]["content"]["text"] == "file:///home"
        first = await ask(client, "resources/read", uri="note://mine")
        result = await client.start("resources/read", {"uri": "note://mine", **answered(first, ACCEPTED)}).result()
        assert result["contents"][0]["text"] == "accept"


@pytest.mark.requirement("K2")
async def test_a_question_is_not_cacheable(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        first = await ask(wire.modern(ABLE), "resources/read", uri="note://mine")
        assert not {"ttlMs", "cacheScope"} & first.keys()


@pytest.mark.requirement("R5", "EL2")
@pytest.mark.parametrize(
    ("capabilities", "tool", "required"),
    [
        ({}, "order", {"elicitation": {}}),
        ({"elicitation": {"url": {}}}, "order", {"elicitation": {"form": {}}}),
        ({"elicitation": {}}, "sign", {"elicitation": {"url": {}}}),
    ],
)
async def test_what_the_client_did_not_declare_is_not_asked(
    mcp: MCPServer, capabilities: dict[str, Any], tool: str, required: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        exchange = wire.modern(capabilities).tool(tool, item="shoe")
        assert await exchange.head() == 400
        error = await exchange.error()
        assert error["code"] == -32021
        assert error["data"] == {"requiredCapabilities": required}


@pytest.mark.requirement("EL9")
async def test_a_modern_url_elicitation_has_no_elicitation_id(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        first = await ask(wire.modern(ABLE), name="sign")
        ((_, asked),) = first["inputRequests"].items()
        assert asked["params"] == {"mode": "url", "message": "Sign", "url": "https://sign.example/1"}


@pytest.mark.requirement("R11")
async def test_nothing_is_held_for_a_client_that_never_comes_back(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        await ask(wire.modern(ABLE))
        await trio.sleep(1)
        assert not wire.app.service.in_flight
        assert wire.app.open_exchanges == 0
