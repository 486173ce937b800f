"""Tools, resources, prompts and completions as each version has them on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.transports.http.harness import LEGACY, MODERN, OLDER, Exchange, Wire, serving
from trio_mcp import Context, MCPServer, Options, ResourceNotFoundError
from trio_mcp.protocol.types import Icon, ResourceLink

EVERY_VERSION = [*OLDER, LEGACY, MODERN]


@dataclass
class Weather:
    degrees: int


@pytest.fixture(scope="module")
def mcp() -> MCPServer:
    """The tests add nothing to it: to make one takes longer than a test."""
    mcp = MCPServer("test", options=Options(page_size=2))
    icon = Icon(src="https://example.com/icon.png")

    @mcp.tool(title="Weather", icons=[icon], meta={"example.com/a": 1})
    async def weather(city: str) -> Weather:
        """How warm it is."""
        return Weather(len(city))

    @mcp.tool
    async def link() -> ResourceLink:
        return ResourceLink(uri="note://a", name="a")

    @mcp.tool
    async def broken() -> Weather:
        return "warm"  # type: ignore[return-value]

    @mcp.tool
    async def trace(ctx: Context) -> str:
        return json.dumps({key: ctx.meta.get(key) for key in ("traceparent", "tracestate", "baggage")})

    @mcp.resource("note://a", title="A", icons=[icon])
    async def a() -> str:
        return "a"

    @mcp.resource("note://lost")
    async def lost() -> str:
        raise ResourceNotFoundError("note://lost")

    @mcp.prompt(title="Greeting", icons=[icon])
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @mcp.completion("greet", "name")
    async def names(value: str) -> list[str]:
        return [f"{value}{number}" for number in range(150)]

    return mcp


class AnyVersionClient:
    """A client of any version."""

    def __init__(self, wire: Wire, version: str) -> None:
        self._wire = wire
        self._version = version
        self._client: Any = None

    async def start(self, method: str, params: dict[str, Any] | None = None) -> Exchange:
        if self._client is None:
            self._client = self._wire.modern() if self._version == MODERN else await self._wire.open(self._version)
        exchange: Exchange = self._client.start(method, params)
        return exchange

    async def result(self, method: str, params: dict[str, Any] | None = None) -> Any:
        return await (await self.start(method, params)).result()

    async def error(self, method: str, params: dict[str, Any] | None = None) -> Any:
        exchange = await self.start(method, params)
        assert await exchange.head() == (400 if self._version == MODERN else 200)
        return await exchange.error()


@pytest.mark.requirement("gap-fields-by-version", "T17", "E9")
@pytest.mark.parametrize(
    ("version", "tool", "resource", "prompt"),
    [
        ("2025-03-26", {"name", "description", "inputSchema"}, {"name", "uri"}, {"name", "arguments"}),
        (
            "2025-06-18",
            {"name", "description", "inputSchema", "title", "_meta", "outputSchema"},
            {"name", "uri", "title"},
            {"name", "arguments", "title"},
        ),
        *(
            (
                version,
                {"name", "description", "inputSchema", "title", "_meta", "outputSchema", "icons"},
                {"name", "uri", "title", "icons"},
                {"name", "arguments", "title", "icons"},
            )
            for version in (LEGACY, MODERN)
        ),
    ],
)
async def test_a_version_sees_the_fields_it_knows(
    mcp: MCPServer, version: str, tool: set[str], resource: set[str], prompt: set[str]
) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, version)
        assert set((await client.result("tools/list"))["tools"][0]) == tool
        assert set((await client.result("resources/list"))["resources"][0]) - {"mimeType"} == resource
        assert set((await client.result("prompts/list"))["prompts"][0]) == prompt


@pytest.mark.requirement("T8", "T9", "T14", "gap-fields-by-version", "gap-outputschema")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_a_version_gets_the_content_it_knows(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, version)
        result = await client.result("tools/call", {"name": "weather", "arguments": {"city": "Bonn"}})
        assert json.loads(result["content"][0]["text"]) == {"degrees": 4}
        assert result.get("structuredContent") == (None if version < "2025-06-18" else {"degrees": 4})
        (block,) = (await client.result("tools/call", {"name": "link"}))["content"]
        assert block["type"] == ("text" if version < "2025-06-18" else "resource_link")
        assert "note://a" in json.dumps(block)


@pytest.mark.requirement("T8", "gap-outputschema")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_a_result_that_breaks_its_output_schema_never_leaves(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        result = await AnyVersionClient(wire, version).result("tools/call", {"name": "broken"})
        assert result["isError"] is True
        assert "structuredContent" not in result


@pytest.mark.requirement("T10", "T11", "weak-unknown-tool")
@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize(
    "params",
    [{"name": "nobody"}, {}, {"name": 5}, {"name": "weather", "arguments": []}, {"name": "weather", "arguments": "x"}],
)
async def test_an_unknown_tool_or_a_malformed_call_is_a_protocol_error(
    mcp: MCPServer, version: str, params: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        assert (await AnyVersionClient(wire, version).error("tools/call", params))["code"] == -32602


@pytest.mark.requirement("T12")
@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize("arguments", [{}, {"city": 5}, {"city": None}])
async def test_arguments_that_do_not_fit_are_an_error_of_the_protocol_first_and_of_the_tool_since_2025_11_25(
    mcp: MCPServer, version: str, arguments: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, version)
        params = {"name": "weather", "arguments": arguments}
        if version in OLDER:
            assert (await client.error("tools/call", params))["code"] == -32602
        else:
            assert (await client.result("tools/call", params))["isError"] is True


@pytest.mark.requirement("E2", "E3", "weak-resource-not-found", "gap-resource-not-found")
@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize("uri", ["note://nobody", "note://lost"])
async def test_a_resource_that_is_not_there_has_a_code_of_its_own_until_2026(
    mcp: MCPServer, version: str, uri: str
) -> None:
    async with serving(mcp) as wire:
        error = await AnyVersionClient(wire, version).error("resources/read", {"uri": uri})
        assert error["code"] == (-32602 if version == MODERN else -32002)
        assert error["data"] == {"uri": uri}


@pytest.mark.requirement("F2", "weak-unknown-prompt")
@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize(
    "params",
    [
        {"name": "nobody"},
        {"name": "greet"},
        {"name": "greet", "arguments": {}},
        {"name": "greet", "arguments": {"name": 5}},
        {},
    ],
)
async def test_an_unknown_prompt_or_a_missing_argument_is_invalid_params(
    mcp: MCPServer, version: str, params: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        assert (await AnyVersionClient(wire, version).error("prompts/get", params))["code"] == -32602


@pytest.mark.requirement("Q1", "gap-cursors")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_pages_follow_each_other_without_a_gap_and_end(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, version)
        names: list[str] = []
        page = await client.result("tools/list")
        names += [tool["name"] for tool in page["tools"]]
        while "nextCursor" in page:
            page = await client.result("tools/list", {"cursor": page["nextCursor"]})
            names += [tool["name"] for tool in page["tools"]]
        assert names == ["weather", "link", "broken", "trace"]


@pytest.mark.requirement("K3")
async def test_every_page_of_a_list_has_the_same_scope(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, MODERN)
        first = await client.result("tools/list")
        second = await client.result("tools/list", {"cursor": first["nextCursor"]})
        assert first["cacheScope"] == second["cacheScope"]


@pytest.mark.requirement("Q2", "gap-cursors", "weak-invalid-cursor")
@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize("method", ["tools/list", "resources/list", "resources/templates/list", "prompts/list"])
async def test_a_cursor_we_never_gave_out_is_invalid_params(mcp: MCPServer, version: str, method: str) -> None:
    async with serving(mcp) as wire:
        client = AnyVersionClient(wire, version)
        cursors: list[Any] = ["0", "nonsense", "é", 5, 0, False, []]
        if method != "tools/list":
            cursors.append((await client.result("tools/list"))["nextCursor"])
        for cursor in cursors:
            assert (await client.error(method, {"cursor": cursor}))["code"] == -32602


@pytest.mark.requirement("T2", "P10")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_a_list_is_the_same_whoever_asks_and_however_often(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        lists = [
            [tool["name"] for tool in (await AnyVersionClient(wire, version).result("tools/list"))["tools"]]
            for _ in range(3)
        ]
        assert lists[0] == lists[1] == lists[2]


@pytest.mark.requirement("W1", "W2")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_a_completion_has_a_hundred_values_at_most_and_says_there_are_more(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "x"}}
        completion = (await AnyVersionClient(wire, version).result("completion/complete", params))["completion"]
        assert len(completion["values"]) == 100
        assert completion["hasMore"] is True
        assert completion["total"] == 150


@pytest.mark.requirement("W3")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"ref": {"type": "ref/prompt", "name": "nobody"}, "argument": {"name": "name", "value": ""}},
        {"ref": {"type": "ref/nothing"}, "argument": {"name": "name", "value": ""}},
        {"ref": {"type": "ref/prompt", "name": "greet"}},
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": 5}},
    ],
)
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_a_completion_of_nothing_we_know_is_invalid_params(
    mcp: MCPServer, version: str, params: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        assert (await AnyVersionClient(wire, version).error("completion/complete", params))["code"] == -32602


@pytest.mark.requirement("J13", "gap-trace-context")
@pytest.mark.parametrize("version", EVERY_VERSION)
async def test_trace_context_in_meta_reaches_the_handler_and_is_never_refused(mcp: MCPServer, version: str) -> None:
    given = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
        "baggage": "user=alice",
    }
    async with serving(mcp) as wire:
        if version == MODERN:
            modern = wire.modern()
            exchange = modern.tool("trace", meta={**modern.meta(), **given})
        else:
            exchange = await AnyVersionClient(wire, version).start("tools/call", {"name": "trace", "_meta": given})
        assert json.loads((await exchange.result())["content"][0]["text"]) == given


@pytest.mark.requirement("N3", "I7")
@pytest.mark.parametrize("version", [*OLDER, LEGACY])
async def test_a_session_sets_the_level_from_which_it_hears_log_messages(version: str) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def talk(ctx: Context) -> None:
        for level in ("debug", "info", "warning", "error"):
            await ctx.log(level, {"at": level}, "mine")

    async with serving(mcp) as wire:
        session = await wire.open(version)
        assert await session.start("logging/setLevel", {"level": "warning"}).result() == {}
        *logs, _ = await session.tool("talk").messages()
        assert [it["params"] for it in logs] == [
            {"level": level, "logger": "mine", "data": {"at": level}} for level in ("warning", "error")
        ]
        assert (await session.start("logging/setLevel", {"level": "loud"}).error())["code"] == -32602
        assert len(await session.tool("talk").messages()) == 3
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("gap-method-matrix")
@pytest.mark.parametrize("version", [*OLDER, LEGACY])
@pytest.mark.parametrize(
    "method", ["server/discover", "subscriptions/listen", "tasks/list", "sampling/createMessage", "x"]
)
async def test_what_a_session_does_not_have_is_method_not_found_within_its_answer(
    mcp: MCPServer, version: str, method: str
) -> None:
    async with serving(mcp) as wire:
        assert (await AnyVersionClient(wire, version).error(method))["code"] == -32601
