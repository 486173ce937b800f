"""Batches: 2025-03-26 must take them, nobody else may send them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import JSON, MODERN, SSE, request, serving
from trio_mcp import Context, MCPServer, Options

NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/initialized"}
RESPONSE = {"jsonrpc": "2.0", "id": 99, "result": {}}


@pytest.fixture
def mcp() -> MCPServer:
    """A server whose tools take as long as they are told."""
    mcp = MCPServer("test")

    @mcp.tool
    async def after(seconds: float, ctx: Context) -> float:
        await ctx.info(f"waiting {seconds}")
        await trio.sleep(seconds)
        return seconds

    return mcp


def call(id: int, seconds: float) -> dict[str, Any]:
    return request(id, "tools/call", {"name": "after", "arguments": {"seconds": seconds}})


def by_id(messages: list[Any]) -> dict[Any, Any]:
    return {message.get("id"): message for message in messages}


@pytest.mark.requirement("J7", "J8", "weak-batch")
async def test_a_batch_is_answered_by_one_array_with_an_answer_for_each_request(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(
            request(1, "ping"), NOTIFICATION, request("b", "tools/list"), request(3, "nobody/knows")
        )
        assert await exchange.head() == 200
        answers = by_id(await exchange.json())
        assert set(answers) == {1, "b", 3}
        assert answers[1]["result"] == {}
        assert answers["b"]["result"]["tools"][0]["name"] == "after"
        assert answers[3]["error"]["code"] == -32601


@pytest.mark.requirement("J8")
async def test_a_batch_of_one_is_still_answered_by_an_array(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        assert await session.batch(request(1, "ping")).json() == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


@pytest.mark.requirement("J8", "L4")
async def test_a_batch_that_wants_no_answer_gets_202(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        assert await session.batch(NOTIFICATION, NOTIFICATION).nothing() == 202
        assert await session.batch(RESPONSE, RESPONSE).nothing() == 202


@pytest.mark.requirement("J8")
async def test_a_slow_batch_is_answered_on_a_stream_that_ends_after_the_last_answer(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(call(1, 3), call(2, 1))
        assert await exchange.head() == 200
        messages = await exchange.messages()
        assert [message["id"] for message in messages if "id" in message] == [2, 1]
        assert [message["method"] for message in messages if "method" in message] == ["notifications/message"] * 2


@pytest.mark.requirement("J8")
@pytest.mark.parametrize("accept", [JSON, SSE])
async def test_a_batch_is_answered_in_the_one_way_its_client_takes(
    mcp: MCPServer, accept: str, autojump_clock: MockClock
) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        session.headers["accept"] = accept
        exchange = session.batch(call(1, 5), request(2, "ping"))
        await exchange.head()
        assert exchange.headers["content-type"] == accept
        messages = await exchange.json() if accept == JSON else await exchange.messages()
        assert {message["id"] for message in messages if "id" in message} == {1, 2}


@pytest.mark.requirement("J8")
async def test_a_bad_element_costs_only_itself(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(
            request(1, "ping"), 17, {"jsonrpc": "2.0", "id": 2}, [request(3, "ping")], {"id": None}
        )
        answers = await exchange.json()
        assert by_id(answers)[1]["result"] == {}
        assert by_id(answers)[2]["error"]["code"] == -32600
        faults = [answer["error"]["code"] for answer in answers if "id" not in answer]
        assert faults == [-32600] * 3


@pytest.mark.requirement("J8")
async def test_a_batch_of_nothing_but_bad_elements_is_answered_too(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        assert [answer["error"]["code"] for answer in await session.batch(1, "x").json()] == [-32600, -32600]


@pytest.mark.requirement("J8")
async def test_an_empty_batch_is_one_invalid_request(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch()
        assert await exchange.head() == 400
        assert (await exchange.json())["error"]["code"] == -32600


@pytest.mark.requirement("J9")
async def test_initialize_in_a_batch_is_refused_in_a_session_and_without_one(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        opening = request(1, "initialize", {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {}})
        for exchange in (session.batch(opening, request(2, "ping")), wire.post([opening])):
            assert await exchange.head() == 400
            assert (await exchange.json())["error"]["code"] == -32600
        assert len(wire.app.hub) == 1


@pytest.mark.requirement("J10")
@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_later_sessions_take_no_batch_and_do_nothing_of_it(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        session = await wire.open(version)
        for elements in ([request(1, "ping")], [NOTIFICATION], [RESPONSE], []):
            exchange = session.batch(*elements)
            assert await exchange.head() == 400
            assert (await exchange.json())["error"]["code"] == -32600


@pytest.mark.requirement("J10", "H2")
async def test_a_modern_batch_is_refused(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        message = request(1, "server/discover", {"_meta": modern.meta()})
        exchange = wire.post([message], {"mcp-protocol-version": MODERN, "mcp-method": "server/discover"})
        assert await exchange.head() == 400
        assert (await exchange.json())["error"]["code"] == -32600


async def test_two_requests_of_a_batch_with_one_id_are_refused_together(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(request(1, "ping"), request(1, "ping"))
        assert await exchange.head() == 400
        assert (await exchange.json())["error"]["code"] == -32600


async def test_a_batch_larger_than_a_session_may_have_in_flight_is_refused_whole(mcp: MCPServer) -> None:
    async with serving(mcp, options=Options(max_in_flight=3)) as wire:
        session = await wire.open("2025-03-26")
        assert await session.batch(*(request(number, "ping") for number in range(1, 5))).head() == 429
        assert await session.batch(*(request(number, "ping") for number in range(1, 4))).head() == 200


async def test_cancelling_one_request_of_a_batch_leaves_the_others(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        session.headers["accept"] = JSON
        exchange = session.batch(call(1, 500), call(2, 5))
        await wait_all_tasks_blocked()
        assert await session.notify("notifications/cancelled", {"requestId": 1}) == 202
        answers = by_id(await exchange.json())
        assert answers[2]["result"]["content"][0]["text"] == "5.0"
        assert "error" in answers[1]
        assert trio.current_time() < 100


@pytest.mark.requirement("L20")
async def test_a_batch_that_was_cut_off_can_be_resumed(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(call(1, 3), call(2, 6))
        event = await exchange.event()
        assert event is not None
        exchange.disconnect()
        rest = await session.listen(event["id"]).messages()
        assert [message["id"] for message in rest if "id" in message] == [1, 2]
