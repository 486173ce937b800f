"""`subscriptions/listen`: how a modern client hears of changes."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from tests.transports.http.harness import JSON, SSE, Exchange, serving
from trio_mcp import MCPServer, Options
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test")

    @mcp.tool
    async def hello() -> str:
        return "hello"

    @mcp.resource("note://a")
    async def note() -> str:
        return "a"

    @mcp.prompt
    async def greet() -> str:
        return "Hello"

    return mcp


def change_everything(mcp: MCPServer) -> None:
    async def more() -> None: ...

    mcp.tool("more")(more)
    mcp.resource("note://b")(more)
    mcp.prompt("more")(more)
    for uri in ("note://a", "note://a/part", "note://b"):
        mcp.notify_resource_updated(uri)


def ids(message: Any) -> Any:
    member = message.get("params") or message.get("result")
    return member["_meta"][SUBSCRIPTION_ID_KEY]


async def heard(exchange: Exchange, count: int) -> list[str]:
    """The methods of the next messages, shortened, with their URIs."""
    found = []
    for _ in range(count):
        message = await exchange.message()
        found.append(message["method"].removeprefix("notifications/") + message["params"].get("uri", ""))
    return found


@pytest.mark.requirement("U2", "U3", "U9")
@pytest.mark.parametrize("id", [7, "7", "a-b", 0])
async def test_the_first_thing_said_is_the_acknowledgement_under_the_requests_id(mcp: MCPServer, id: int | str) -> None:
    async with serving(mcp) as wire:
        stream = wire.modern().listen(id, toolsListChanged=True, resourceSubscriptions=["note://a"])
        assert await stream.head() == 200
        assert stream.headers["content-type"] == SSE
        first = await stream.message()
        assert first["method"] == ACKNOWLEDGED
        assert first["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["note://a"]}
        change_everything(mcp)
        said = [first, await stream.message(), await stream.message()]
        for message in said:
            assert ids(message) == id
            assert type(ids(message)) is type(id)


@pytest.mark.requirement("U4", "gap-listen-updates")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"toolsListChanged": True}, ["tools/list_changed"]),
        ({"promptsListChanged": True}, ["prompts/list_changed"]),
        ({"resourcesListChanged": True}, ["resources/list_changed"]),
        ({"resourceSubscriptions": ["note://a"]}, ["resources/updatednote://a", "resources/updatednote://a/part"]),
        ({"resourceSubscriptions": ["note://b", "note://z"]}, ["resources/updatednote://b"]),
        ({"toolsListChanged": False, "resourceSubscriptions": []}, []),
        ({}, []),
        (
            {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True},
            ["tools/list_changed", "resources/list_changed", "prompts/list_changed"],
        ),
    ],
)
async def test_a_stream_carries_what_was_asked_for_and_nothing_else(
    mcp: MCPServer, wanted: dict[str, Any], told: list[str]
) -> None:
    async with serving(mcp) as wire:
        stream = wire.modern().listen(**wanted)
        assert (await stream.message())["method"] == ACKNOWLEDGED
        change_everything(mcp)
        assert await heard(stream, len(told)) == told
        await wait_all_tasks_blocked()
        end_all(wire.app.service)
        (end,) = await stream.messages()
        assert "result" in end


def end_all(service: Any) -> None:
    """What a draining server does."""
    for ended in service.listen_calls.values():
        ended.set()


@pytest.mark.requirement("U2")
async def test_what_the_server_does_not_have_is_left_out_of_the_acknowledgement() -> None:
    async with serving(MCPServer("test")) as wire:
        stream = wire.modern().listen(toolsListChanged=True, promptsListChanged=True, resourceSubscriptions=["x://y"])
        assert (await stream.message())["params"]["notifications"] == {}


@pytest.mark.requirement("U5")
async def test_several_subscriptions_live_side_by_side(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client, other = wire.modern(), wire.modern()
        streams = [
            client.listen(1, toolsListChanged=True),
            client.listen("1", toolsListChanged=True),
            other.listen(1, toolsListChanged=True),
        ]
        for stream in streams:
            assert (await stream.message())["method"] == ACKNOWLEDGED
        streams[0].disconnect()
        await wait_all_tasks_blocked()
        change_everything(mcp)
        for stream in streams[1:]:
            assert await heard(stream, 1) == ["tools/list_changed"]
        assert len(wire.app.service.listen_calls) == 2


@pytest.mark.requirement("U6")
async def test_closing_the_stream_ends_the_subscription(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        stream = wire.modern().listen(toolsListChanged=True)
        await stream.message()
        assert len(wire.app.service.listen_calls) == 1
        stream.disconnect()
        await wait_all_tasks_blocked()
        assert not wire.app.service.listen_calls
        assert wire.app.open_exchanges == 0


@pytest.mark.requirement("U7", "gap-graceful-listen-close")
async def test_the_server_ends_a_subscription_with_its_result_and_a_clean_end(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        stream = wire.modern().listen("x", toolsListChanged=True)
        await stream.message()
        end_all(wire.app.service)
        (end,) = await stream.messages()
        assert end["id"] == "x"
        assert end["result"]["resultType"] == "complete"
        assert ids(end) == "x"
        await stream.raw.finished.wait()


@pytest.mark.requirement("U1")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": None},
        {"notifications": []},
        {"notifications": {"toolsListChanged": "yes"}},
        {"notifications": {"resourceSubscriptions": "note://a"}},
        {"notifications": {"resourceSubscriptions": [5]}},
    ],
)
async def test_a_malformed_filter_is_refused(mcp: MCPServer, params: dict[str, Any]) -> None:
    async with serving(mcp) as wire:
        exchange = wire.modern().start("subscriptions/listen", params)
        assert await exchange.head() == 400
        assert (await exchange.error())["code"] == -32602


@pytest.mark.requirement("U9")
async def test_who_takes_no_stream_cannot_listen(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        exchange = wire.modern(headers={"accept": JSON}).listen(toolsListChanged=True)
        assert await exchange.head() == 406
        assert (await exchange.json())["id"] == 1


@pytest.mark.requirement("U9")
async def test_a_server_told_to_answer_in_json_still_streams_subscriptions(mcp: MCPServer) -> None:
    async with serving(mcp, json_response=True) as wire:
        assert (await wire.modern().listen(toolsListChanged=True).message())["method"] == ACKNOWLEDGED


@pytest.mark.requirement("U11")
async def test_the_number_of_subscriptions_is_bounded(mcp: MCPServer) -> None:
    async with serving(mcp, options=Options(max_listen_streams=2)) as wire:
        client = wire.modern()
        streams = [client.listen(), client.listen()]
        for stream in streams:
            await stream.message()
        assert "Too many" in (await client.listen().error())["message"]
        streams[0].disconnect()
        await wait_all_tasks_blocked()
        assert (await client.listen().message())["method"] == ACKNOWLEDGED


@pytest.mark.requirement("U4", "H5")
async def test_a_change_is_told_on_no_other_modern_stream(mcp: MCPServer) -> None:
    @mcp.tool
    async def grow() -> str:
        change_everything(mcp)
        return "grown"

    async with serving(mcp) as wire:
        assert (await wire.modern().tool("grow").json())["result"]["content"][0]["text"] == "grown"


@pytest.mark.requirement("U10", "T16")
async def test_removing_is_a_change_too(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        stream = wire.modern().listen(toolsListChanged=True)
        await stream.message()
        mcp.remove_tool("hello")
        assert await heard(stream, 1) == ["tools/list_changed"]
