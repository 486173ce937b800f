"""A client of 2024-11-05 over streamable HTTP: served in its version, with nothing in it that the version does not have."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.transports.http.harness import Exchange, SessionClient, serving
from trio_mcp import Context, MCPServer
from trio_mcp.protocol.types import (
    Annotations,
    AudioContent,
    CallToolResult,
    Icon,
    ImageContent,
    ResourceLink,
    TextContent,
)

VERSION = "2024-11-05"
HEADER = {"mcp-protocol-version": VERSION}
ICON = Icon("https://example.org/i.png")

INITIALIZE_RESULT = {"protocolVersion", "capabilities", "serverInfo", "instructions"}
CAPABILITIES = {"experimental", "logging", "prompts", "resources", "tools"}
TOOL = {"name", "description", "inputSchema"}
RESOURCE = {"uri", "name", "description", "mimeType", "size", "annotations"}
TEMPLATE = {"uriTemplate", "name", "description", "mimeType", "annotations"}
PROMPT = {"name", "description", "arguments"}
BLOCKS = {
    "text": {"type", "text", "annotations"},
    "image": {"type", "data", "mimeType", "annotations"},
    "resource": {"type", "resource", "annotations"},
}
"""The members of its schema; `size` of a resource is a later addition that its file has."""


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test", title="T", website_url="https://example.org", icons=[ICON], instructions="Be kind.")

    @mcp.tool(title="T", annotations={"readOnlyHint": True}, icons=[ICON], meta={"a": 1})
    async def add(a: Annotated[int, Field(ge=0)], b: int = 0) -> int:
        return a + b

    @mcp.tool
    async def blocks() -> CallToolResult:
        marks = Annotations(["user"], 1, "2026-01-01T00:00:00Z")
        return CallToolResult(
            content=[
                TextContent("t", annotations=marks),
                ImageContent("AAAA", "image/png", annotations=marks),
                AudioContent("AAAA", "audio/wav", annotations=marks),
                ResourceLink("x://y", "y", title="Y"),
            ],
            structured_content={"a": 1},
        )

    @mcp.tool
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await ctx.info("working")
        return "done"

    @mcp.tool
    async def question(ctx: Context) -> str:
        return str(ctx.supports("elicitation"))

    @mcp.resource("note://one", title="T", size=3, icons=[ICON], meta={"a": 1})
    async def one() -> str:
        return "one"

    @mcp.resource("note://{name}/x", title="T", icons=[ICON], meta={"a": 1})
    async def note(name: str) -> bytes:
        return name.encode()

    @mcp.prompt(title="T", icons=[ICON], meta={"a": 1})
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @mcp.completion("greet", "name")
    async def names(value: str) -> list[str]:
        return [value]

    return mcp


with_and_without_the_header = pytest.mark.parametrize("headers", [HEADER, {}], ids=["header", "no header"])


@with_and_without_the_header
async def test_it_is_offered_its_own_version(mcp: MCPServer, headers: dict[str, str]) -> None:
    async with serving(mcp) as wire:
        exchange = wire.initialize(VERSION, headers=headers)
        result = await exchange.result()
        assert exchange.headers["mcp-session-id"]
    assert result["protocolVersion"] == VERSION
    assert result.keys() == INITIALIZE_RESULT
    assert result["capabilities"].keys() <= CAPABILITIES
    assert result["serverInfo"].keys() == {"name", "version"}


@with_and_without_the_header
@pytest.mark.parametrize(
    ("method", "list_name", "known"),
    [
        ("tools/list", "tools", TOOL),
        ("resources/list", "resources", RESOURCE),
        ("resources/templates/list", "resourceTemplates", TEMPLATE),
        ("prompts/list", "prompts", PROMPT),
    ],
)
async def test_lists_have_the_members_of_the_version(
    mcp: MCPServer, headers: dict[str, str], method: str, list_name: str, known: set[str]
) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION, headers=headers)
        result = await client.start(method).result()
    assert result.keys() == {list_name}
    assert result[list_name]
    assert all(item.keys() <= known for item in result[list_name]), result


@with_and_without_the_header
async def test_content_has_the_types_of_the_version(mcp: MCPServer, headers: dict[str, str]) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION, headers=headers)
        assert await client.tool("add", a=1, b=2).result() == {
            "content": [{"type": "text", "text": "3"}],
            "isError": False,
        }
        result = await client.tool("blocks").result()
    assert result.keys() == {"content", "isError"}
    assert [block["type"] for block in result["content"]] == ["text", "image", "resource", "text"]
    for block in result["content"]:
        assert block.keys() <= BLOCKS[block["type"]], block
        assert block.get("annotations", {}).keys() <= {"audience", "priority"}
    sound = result["content"][2]["resource"]
    assert (sound["mimeType"], sound["blob"]) == ("audio/wav", "AAAA")


@with_and_without_the_header
async def test_progress_and_logs_reach_it(mcp: MCPServer, headers: dict[str, str]) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION, headers=headers)
        assert await client.start("logging/setLevel", {"level": "info"}).result() == {}
        params = {"name": "work", "arguments": {}, "_meta": {"progressToken": "p"}}
        progress, log, answer = await client.start("tools/call", params).messages()
    assert progress["params"] == {"progressToken": "p", "progress": 1, "total": 2}
    assert log["params"] == {"level": "info", "data": "working"}
    assert answer["result"]["content"] == [{"type": "text", "text": "done"}]


@with_and_without_the_header
@pytest.mark.parametrize(
    ("method", "params", "right"),
    [
        ("ping", {}, {}),
        (
            "resources/read",
            {"uri": "note://one"},
            {"contents": [{"uri": "note://one", "mimeType": "text/plain", "text": "one"}]},
        ),
        (
            "resources/read",
            {"uri": "note://a/x"},
            {"contents": [{"uri": "note://a/x", "mimeType": "application/octet-stream", "blob": "YQ=="}]},
        ),
        ("resources/subscribe", {"uri": "note://one"}, {}),
        ("resources/unsubscribe", {"uri": "note://one"}, {}),
        (
            "prompts/get",
            {"name": "greet", "arguments": {"name": "Ada"}},
            {"messages": [{"role": "user", "content": {"type": "text", "text": "Hello Ada"}}]},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "A"}},
            {"completion": {"values": ["A"], "total": 1, "hasMore": False}},
        ),
    ],
)
async def test_every_method_of_the_version_is_answered(
    mcp: MCPServer, headers: dict[str, str], method: str, params: dict[str, Any], right: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION, headers=headers)
        assert await client.start(method, params).result() == right


async def test_faults_are_as_in_2025_03_26(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION)
        assert (await client.tool("add", a="x").error())["code"] == -32602
        assert (await client.tool("nothing").error())["code"] == -32602
        assert (await client.start("resources/read", {"uri": "note://no"}).error())["code"] == -32002


async def test_it_is_never_asked_what_its_version_has_no_words_for(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION, {"elicitation": {}})
        assert (await client.tool("question").result())["content"][0]["text"] == "False"


async def test_a_session_ends_and_its_stream_is_read(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client: SessionClient = await wire.open(VERSION, headers=HEADER)
        stream: Exchange = client.listen()
        assert await stream.head() == 200
        mcp.remove_tool("blocks")
        assert await stream.message() == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        assert await client.delete().nothing() == 204
        assert await client.start("ping").head() == 404


@pytest.mark.parametrize("header", ["1999-01-01", "2024-10-07"])
async def test_a_version_before_it_is_refused(mcp: MCPServer, header: str) -> None:
    async with serving(mcp) as wire:
        client = await wire.open(VERSION)
        assert await client.start("ping", headers={"mcp-protocol-version": header}).head() == 400
