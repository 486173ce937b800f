"""null where a member may be left out, an empty cursor, an empty version header, a byte order mark: as if it were not there."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import Any

import pytest

from tests.transports.http.harness import LEGACY, MODERN, SSE, Exchange, Wire, serving
from trio_mcp import Context, MCPServer

ERAS = [LEGACY, MODERN]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "arguments of a tool": ("tools/call", {"name": "hello", "arguments": None}),
    "arguments of a prompt": ("prompts/get", {"name": "greet", "arguments": None}),
    "cursor": ("tools/list", {"cursor": None}),
    "empty cursor": ("tools/list", {"cursor": ""}),
    "context of a completion": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "a"}, "context": None},
    ),
    "arguments of the context": (
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "greet"},
            "argument": {"name": "who", "value": "a"},
            "context": {"arguments": None},
        },
    ),
    "answers of a retry": ("tools/call", {"name": "hello", "inputResponses": None, "requestState": None}),
}
"""Each with a member that is as good as left out."""


@pytest.fixture
def mcp() -> MCPServer:
    """One of everything that takes an optional object."""
    mcp = MCPServer("test")

    @mcp.tool
    async def hello(ctx: Context) -> str:
        return f"hello {ctx.supports('elicitation')} {ctx.supports('sampling', 'tools')}"

    @mcp.prompt
    async def greet(who: str = "you") -> str:
        return f"hello {who}"

    @mcp.completion("greet", "who")
    async def who(value: str) -> list[str]:
        return ["ann"]

    return mcp


def lean(params: dict[str, Any]) -> dict[str, Any]:
    """Without what is null or empty."""
    kept = {name: lean(value) if isinstance(value, dict) else value for name, value in params.items()}
    return {name: value for name, value in kept.items() if value not in (None, "", {})}


async def ask(wire: Wire, version: str, method: str, params: dict[str, Any]) -> Exchange:
    if version == MODERN:
        return wire.modern().start(method, params)
    return (await wire.open(version)).start(method, params)


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("case", CASES)
async def test_null_is_as_good_as_left_out(mcp: MCPServer, version: str, case: str) -> None:
    method, params = CASES[case]
    async with serving(mcp) as wire:
        without = await (await ask(wire, version, method, lean(params))).result()
        assert await (await ask(wire, version, method, params)).result() == without


async def test_params_and_meta_may_be_null_in_a_session(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        session.oracle.asked(1, "tools/list")
        session.oracle.asked(2, "tools/list")
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": None}
        listed = await session.post(body).result()
        assert [tool["name"] for tool in listed["tools"]] == ["hello"]
        assert await session.post({**body, "id": 2, "params": {"_meta": None}}).result() == listed
        notification = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": None}
        assert await session.post(notification).nothing() == 202


async def test_a_subscription_takes_null_for_what_it_does_not_want(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        exchange = wire.modern().listen(toolsListChanged=True, promptsListChanged=None, resourceSubscriptions=None)
        acknowledged = (await exchange.message())["params"]
        assert acknowledged["notifications"] == {"toolsListChanged": True}


@pytest.mark.parametrize("error", [{}, {"error": None}])
async def test_an_answer_with_a_null_error_is_a_success(mcp: MCPServer, error: dict[str, None]) -> None:
    @mcp.tool
    async def ask_name(ctx: Context) -> str:
        answer = await ctx.elicit("Your name?", {"type": "object", "properties": {"name": {"type": "string"}}})
        return str(answer.action)

    async with serving(mcp) as wire:
        session = await wire.open(capabilities={"elicitation": {}, "sampling": None})
        exchange = session.tool("ask_name")
        question = await exchange.message()
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline", "content": None}, **error}
        assert await session.post(reply).nothing() == 202
        assert (await exchange.answer())["result"]["content"][0]["text"] == "decline"


@pytest.mark.parametrize("capabilities", [{"elicitation": None}, {"sampling": {"tools": None}}, {}])
async def test_a_capability_that_is_null_is_none(mcp: MCPServer, capabilities: dict[str, Any]) -> None:
    async with serving(mcp) as wire:
        for client in (await wire.open(capabilities=capabilities), wire.modern(capabilities)):
            result = await client.tool("hello").result()
            assert result["content"][0]["text"] == "hello False False"


async def test_an_empty_version_header_is_none(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        assert await session.start("ping", headers={"mcp-protocol-version": ""}).result() == {}
        assert await session.listen(headers={"mcp-protocol-version": " "}).head() == 200
        assert await wire.start("GET", {"accept": SSE, "mcp-protocol-version": ""}).head() == 400
        assert await session.delete({"mcp-protocol-version": ""}).nothing() == 204


@pytest.mark.parametrize("version", ERAS)
async def test_a_byte_order_mark_before_a_message_is_skipped(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        if version == MODERN:
            modern = wire.modern()
            headers = {**modern.headers("tools/list", {}), "content-type": "application/json"}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": modern.meta()}}
            oracle = modern.oracle
        else:
            session = await wire.open()
            headers = {**session.headers, "content-type": "application/json"}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            oracle = session.oracle
        oracle.asked(1, "tools/list")
        exchange = wire.post(BOM_UTF8 + json.dumps(message).encode(), headers, oracle=oracle)
        assert [tool["name"] for tool in (await exchange.result())["tools"]] == ["hello"]
