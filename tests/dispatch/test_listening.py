"""`subscriptions/listen`: acknowledged, then only what was asked for, until it is ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer
from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.listening import MAX_KEPT_URI, MAX_SUBSCRIPTIONS
from trio_mcp.dispatch.options import Options
from trio_mcp.features.tools import Tool
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import ListChanged, ResourceUpdated

ALL_LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
ID_KEY = "io.modelcontextprotocol/subscriptionId"


def nothing() -> None:
    """Nothing."""


@pytest.fixture
def harness() -> DispatchHarness:
    mcp = MCPServer("t")
    mcp.add_tool(nothing, name="t")
    mcp.add_resource(nothing, "x://y")
    mcp.add_prompt(nothing, name="p")
    return DispatchHarness(mcp, "2026-07-28")


@asynccontextmanager
async def listening(harness: DispatchHarness, **notifications: Any) -> AsyncIterator[Call]:
    """A subscription, acknowledged; whoever leaves the block has ended it or is its client leaving."""
    call = harness.call("subscriptions/listen", {"notifications": notifications})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.service.bus.pump)
        nursery.start_soon(respond, call)
        await trio.testing.wait_all_tasks_blocked()
        yield call
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_the_acknowledgement_comes_first_with_what_is_honoured(harness: DispatchHarness) -> None:
    async with listening(harness, **ALL_LISTS, resourceSubscriptions=["x://y"], taskIds=["1"]) as call:
        (ack,) = harness.outbox.said
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        assert ack["params"]["notifications"] == {**ALL_LISTS, "resourceSubscriptions": ["x://y"]}
        assert ack["params"]["_meta"] == {ID_KEY: call.request_id}
        assert harness.outbox.kinds == [(Kind.VITAL, None)]


async def test_what_the_server_does_not_offer_is_not_honoured() -> None:
    mcp = MCPServer("t")
    mcp.add_tool(nothing, name="t")
    harness = DispatchHarness(mcp, "2026-07-28")
    async with listening(harness, **ALL_LISTS, resourceSubscriptions=["x://y"]):
        assert harness.outbox.said[0]["params"]["notifications"] == {"toolsListChanged": True}


@pytest.mark.parametrize("kind", ["tools", "prompts", "resources"])
async def test_only_lists_that_were_asked_for_are_told(harness: DispatchHarness, kind: Any) -> None:
    async with listening(harness, **{f"{kind}ListChanged": True}) as call:
        for each in ("tools", "prompts", "resources"):
            harness.service.bus.publish(ListChanged(each))
        harness.service.bus.publish(ResourceUpdated("x://y"))
        await trio.testing.wait_all_tasks_blocked()
        _, *told = harness.outbox.said
        assert told == [
            {
                "jsonrpc": "2.0",
                "method": f"notifications/{kind}/list_changed",
                "params": {"_meta": {ID_KEY: call.request_id}},
            }
        ]


async def test_false_is_not_asked_for(harness: DispatchHarness) -> None:
    async with listening(harness, toolsListChanged=False):
        harness.service.bus.publish(ListChanged("tools"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(harness.outbox.said) == 1


async def test_updates_are_told_for_subscribed_uris_and_what_is_below_them(harness: DispatchHarness) -> None:
    async with listening(harness, resourceSubscriptions=["x://y", "file:///dir/"]):
        for uri in ("x://y", "x://y/z", "x://yy", "x://", "file:///dir/a", "file:///directory"):
            harness.service.bus.publish(ResourceUpdated(uri))
        await trio.testing.wait_all_tasks_blocked()
        told = [message["params"]["uri"] for message in harness.outbox.said[1:]]
        assert told == ["x://y", "x://y/z", "file:///dir/a"]
        assert harness.outbox.kinds[1] == (Kind.LATEST, ResourceUpdated("x://y"))


async def test_a_change_of_the_registry_is_told_by_itself(harness: DispatchHarness) -> None:
    async with listening(harness, toolsListChanged=True):
        harness.service.registry.add(Tool.of(nothing, name="new"))
        await trio.testing.wait_all_tasks_blocked()
        assert harness.outbox.said[-1]["method"] == "notifications/tools/list_changed"


async def test_a_handler_tells_of_changes_too() -> None:
    mcp = MCPServer("t")
    mcp.add_resource(nothing, "x://y")
    mcp.add_prompt(nothing, name="p")

    @mcp.tool
    async def change(ctx: Context) -> None:
        await ctx.notify_tools_changed()
        await ctx.notify_prompts_changed()
        await ctx.notify_resources_changed()
        await ctx.notify_resource_updated("x://y")

    harness = DispatchHarness(mcp, "2026-07-28")
    async with listening(harness, **ALL_LISTS, resourceSubscriptions=["x://y"]):
        outbox = harness.outbox
        await harness.tool("change")
        await trio.testing.wait_all_tasks_blocked()
        assert [message["method"] for message in outbox.said[1:]] == [
            "notifications/tools/list_changed",
            "notifications/prompts/list_changed",
            "notifications/resources/list_changed",
            "notifications/resources/updated",
        ]


async def test_the_server_ends_it_with_its_result(harness: DispatchHarness) -> None:
    async with listening(harness) as call:
        harness.service.listen_calls[call].set()
        await trio.testing.wait_all_tasks_blocked()
        result = harness.outbox.reply["result"]
        assert result["_meta"][ID_KEY] == call.request_id
        assert result["resultType"] == "complete"
        assert not harness.service.listen_calls


async def test_a_client_that_leaves_frees_its_place(harness: DispatchHarness) -> None:
    async with listening(harness, toolsListChanged=True):
        assert len(harness.service.listen_calls) == 1
    assert not harness.service.listen_calls


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": None},
        {"notifications": []},
        {"notifications": {"toolsListChanged": "yes"}},
        {"notifications": {"promptsListChanged": 1}},
        {"notifications": {"resourceSubscriptions": "x://y"}},
        {"notifications": {"resourceSubscriptions": [1]}},
        {"notifications": {"resourceSubscriptions": ["x"] * (MAX_SUBSCRIPTIONS + 1)}},
        {"notifications": {"resourceSubscriptions": ["x" * (MAX_KEPT_URI + 1)]}},
    ],
)
async def test_a_filter_of_the_wrong_form_is_invalid_params(harness: DispatchHarness, params: dict[str, Any]) -> None:
    assert (await harness.error("subscriptions/listen", params))["code"] == -32602


async def test_the_number_of_listeners_is_bounded() -> None:
    harness = DispatchHarness(MCPServer("t"), "2026-07-28", options=Options(max_listen_streams=1))
    async with listening(harness):
        error = await harness.error("subscriptions/listen", {"notifications": {}})
        assert error["code"] == -32603
        assert "Too many" in error["message"]
