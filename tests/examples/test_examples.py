"""The examples do what they say: people copy them."""

import mcp_types as types
import pytest
import trio
from mcp import Client
from trio.testing import MockClock, wait_all_tasks_blocked

from examples import background, chart, everything, quickstart
from trio_mcp.testing import connect


async def say(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_quickstart_counts_down_and_shows_progress(mode: str, autojump_clock: MockClock) -> None:
    shown: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        shown.append((progress, message))

    async with connect(quickstart.mcp, mode) as client:
        await client.call_tool("countdown", {"start": 3}, progress_callback=on_progress)
        assert await say(client, "countdown", start=1) == "Lift-off!"
    assert shown == [(0, "3…"), (1, "2…"), (2, "1…")]


async def test_quickstart_tells_the_model_what_was_wrong() -> None:
    async with connect(quickstart.mcp) as client:
        assert await say(client, "divide", a=1, b=0) == "b must not be 0"
        assert await say(client, "divide", a=1, b=4) == "0.25"


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
async def test_background_updates_its_resource_and_reminds(autojump_clock: MockClock) -> None:
    updated, reminded = trio.Event(), trio.Event()

    async def on_message(message: object) -> None:
        match message:
            case types.ResourceUpdatedNotification(params=params) if params.uri == "uptime://session":
                updated.set()
            case types.LoggingMessageNotification(params=params) if params.data == "tea":
                reminded.set()

    async with connect(background.mcp, "legacy", message_handler=on_message) as client:
        assert await say(client, "remind", text="tea", seconds=5) == "Will remind you in 5 s."
        await client.session.subscribe_resource("uptime://session")
        await updated.wait()
        await reminded.wait()
        (contents,) = (await client.read_resource("uptime://session")).contents
        assert isinstance(contents, types.TextResourceContents)
        assert float(contents.text.removesuffix(" s")) >= 5


async def test_background_leaves_nothing_behind_when_a_session_ends() -> None:
    async with connect(background.mcp, "legacy"):
        assert len(background.opened_at) == 1
    assert background.opened_at == {}


async def test_background_has_no_task_for_a_client_without_a_session() -> None:
    async with connect(background.mcp, "auto") as client:
        assert await say(client, "remind", text="tea", seconds=5) == "Only a session can be reminded."
        assert background.opened_at == {}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_first_tool_of_everything_needs_no_arguments(mode: str) -> None:
    async with connect(everything.mcp, mode) as client:
        first = (await client.list_tools()).tools[0]
        assert not (await client.call_tool(first.name, {})).is_error


async def test_everything_counts_the_calls_of_slow_that_were_cancelled() -> None:
    async with connect(everything.mcp) as client:
        before = int(await say(client, "cancelled_count"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "slow", {"seconds": 3600})
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel("no patience left")
        assert int(await say(client, "cancelled_count")) == before + 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_chart_is_an_app_beside_a_result_for_everybody(mode: str) -> None:
    async with connect(chart.mcp, mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.meta == {"ui": {"resourceUri": "ui://sales/chart"}}
        result = await client.call_tool("sales", {"year": 2025})
        assert result.structured_content is not None
        assert len(result.structured_content["months"]) == 12
        (page,) = (await client.read_resource("ui://sales/chart")).contents
        assert isinstance(page, types.TextResourceContents)
        assert (page.mime_type, page.text[:15]) == ("text/html;profile=mcp-app", "<!doctype html>")
        assert await say(client, "sales", year=1999) == "The shop has figures of 2000 to 2026"
