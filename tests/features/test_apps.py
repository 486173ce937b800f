"""MCP Apps (SEP-1865): what tools and apps say in `_meta.ui`, who is told, and what is refused before it could reach a host."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.transports.http.harness import LEGACY, MODERN, OLDER, serving
from trio_mcp import Context, Extension, MCPServer
from trio_mcp.auth import require_scopes
from trio_mcp.protocol.app_types import APP_MIME_TYPE, UI
from trio_mcp.types import AppCsp, TextResourceContents, ToolUi

CHART = "ui://sales/chart"
HTML = "<!doctype html><title>Sales</title>"
SHOWS: dict[str, Any] = {"extensions": {UI: {"mimeTypes": [APP_MIME_TYPE]}}}
EVERYTHING: dict[str, Any] = {
    "csp": AppCsp(
        connect_domains=["https://api.example.com", "wss://live.example.com:8443"],
        resource_domains=["https://*.example.com"],
        frame_domains=["https://www.example.com"],
        base_uri_domains=["http://localhost:*"],
    ),
    "permissions": ["camera", "clipboardWrite"],
    "domain": "a904794854a047f6.example.com",
    "prefers_border": True,
}
WIRE: dict[str, Any] = {
    "csp": {
        "connectDomains": ["https://api.example.com", "wss://live.example.com:8443"],
        "resourceDomains": ["https://*.example.com"],
        "frameDomains": ["https://www.example.com"],
        "baseUriDomains": ["http://localhost:*"],
    },
    "permissions": {"camera": {}, "clipboardWrite": {}},
    "domain": "a904794854a047f6.example.com",
    "prefersBorder": True,
}


def server(**options: Any) -> MCPServer:
    """A tool with an app."""
    mcp = MCPServer("t")

    @mcp.tool(ui=CHART)
    async def sales(ctx: Context, year: int) -> dict[str, int]:
        """Sales by month."""
        return {"jan": year, "shown": int(ctx.client_supports_extension(UI))}

    @mcp.app(CHART, **options)
    async def chart() -> str:
        return HTML

    return mcp


@pytest.mark.requirement("P9", "P10")
@pytest.mark.parametrize("capabilities", [SHOWS, {}], ids=["shows apps", "shows none"])
async def test_the_tool_is_the_same_for_clients_without_apps(capabilities: dict[str, Any]) -> None:
    async with serving(server()) as wire:
        modern, session = wire.modern(capabilities), await wire.open(LEGACY, capabilities)
        for client in (modern, session):
            (tool,) = (await client.start("tools/list").result())["tools"]
            assert tool["_meta"]["ui"] == {"resourceUri": CHART}
            result = await client.tool("sales", year=2026).result()
            assert result["structuredContent"] == {"jan": 2026, "shown": int(bool(capabilities))}
            assert result["content"]


@pytest.mark.parametrize(("options", "ui"), [({}, None), (EVERYTHING, WIRE)])
async def test_an_app_is_html_with_what_it_needs_of_its_host(options: dict[str, Any], ui: Any) -> None:
    async with serving(server(**options)) as wire:
        modern, session = wire.modern(SHOWS), await wire.open(LEGACY, SHOWS)
        for client in (modern, session):
            (listed,) = (await client.start("resources/list").result())["resources"]
            assert (listed["uri"], listed["name"], listed["mimeType"]) == (CHART, "chart", APP_MIME_TYPE)
            assert listed.get("_meta") == (ui and {"ui": ui})
            headers = {"mcp-name": CHART} if client is modern else None
            (read,) = (await client.start("resources/read", {"uri": CHART}, headers=headers).result())["contents"]
            assert read == {"uri": CHART, "mimeType": APP_MIME_TYPE, "text": HTML} | (
                {"_meta": {"ui": ui}} if ui else {}
            )


async def test_the_extension_is_declared_while_a_tool_has_an_app() -> None:
    mcp = server()
    async with serving(mcp) as wire:
        assert (await wire.modern().start("server/discover").result())["capabilities"]["extensions"] == {UI: {}}
        for version, declared in (("2024-11-05", False), ("2025-06-18", True), (LEGACY, True)):
            capabilities = (await wire.initialize(version).result())["capabilities"]
            assert ("extensions" in capabilities) == declared
        mcp.remove_tool("sales")
        assert "extensions" not in (await wire.modern().start("server/discover").result())["capabilities"]
    assert OLDER[-1] == "2025-06-18"


async def test_contents_of_their_own_come_first() -> None:
    mcp = MCPServer("t")
    own = {"ui": {"prefersBorder": False}, "more": 1}
    mcp.add_app(lambda: TextResourceContents(uri=CHART, text=HTML, meta=own), CHART, prefers_border=True)
    mcp.add_app(lambda: HTML.encode(), "ui://sales/bytes")
    async with serving(mcp) as wire:
        client = wire.modern()
        (read,) = (await client.start("resources/read", {"uri": CHART}).result())["contents"]
        assert (read["mimeType"], read["_meta"]) == (APP_MIME_TYPE, own)
        (read,) = (await client.start("resources/read", {"uri": "ui://sales/bytes"}).result())["contents"]
        assert (read["mimeType"], "blob" in read, "_meta" in read) == (APP_MIME_TYPE, True, False)


VISIBLE: list[tuple[Any, dict[str, Any]]] = [
    (CHART, {"resourceUri": CHART}),
    (ToolUi(CHART), {"resourceUri": CHART}),
    (ToolUi(CHART, ["app"]), {"resourceUri": CHART, "visibility": ["app"]}),
    (ToolUi(visibility=["model"]), {"visibility": ["model"]}),
    ({"resourceUri": CHART, "visibility": ["model", "app"]}, {"resourceUri": CHART, "visibility": ["model", "app"]}),
]


@pytest.mark.parametrize(("ui", "wire"), VISIBLE)
def test_a_tool_names_its_app_and_who_may_call_it(ui: Any, wire: dict[str, Any]) -> None:
    mcp = MCPServer("t")
    mcp.add_tool(lambda: 1, name="t", ui=ui, meta={"com.example/own": 1})
    (tool,) = mcp.registry.tools
    assert tool.definition(MODERN)["_meta"] == {"com.example/own": 1, "ui": wire}


def test_an_extension_of_the_server_itself_is_kept() -> None:
    own = Extension(UI, settings={"mimeTypes": [APP_MIME_TYPE]})
    mcp = MCPServer("t", extensions=[own])
    mcp.add_tool(lambda: 1, name="t", ui=CHART)
    assert mcp.extensions == {UI: own}


async def test_a_tool_whose_app_is_missing_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("t")
    mcp.add_tool(lambda: 1, name="sales", ui=CHART)
    mcp.add_tool(lambda: 1, name="quiet", ui=ToolUi(visibility=["app"]))
    with caplog.at_level(logging.WARNING):
        async with serving(mcp):
            pass
        mcp.add_app(lambda: HTML, CHART)
        async with serving(mcp):
            pass
    told = [record.mcp_fields for record in caplog.records if "not registered" in record.message]  # type: ignore[attr-defined]
    assert told == [{"tool": "sales", "target": CHART}]


@pytest.mark.parametrize(
    ("error", "ui"),
    [
        (ValueError, "https://example.com"),
        (ValueError, "ui://sales/{year}"),
        (ValueError, "ui://"),
        (ValueError, "ui://sales chart"),
        (ValueError, {}),
        (ValueError, {"visibility": []}),
        (ValueError, {"visibility": ["user"]}),
        (ValueError, {"visibility": "app"}),
        (TypeError, {"csp": {}}),
        (TypeError, 5),
        (TypeError, [CHART]),
    ],
)
def test_what_is_no_app_of_a_tool_is_refused(error: type[Exception], ui: Any) -> None:
    mcp = MCPServer("t")
    with pytest.raises(error):
        mcp.add_tool(lambda: 1, name="t", ui=ui)
    assert not mcp.registry.tools


def test_meta_says_nothing_that_the_options_say() -> None:
    mcp = MCPServer("t")
    with pytest.raises(ValueError, match="has a member ui"):
        mcp.add_tool(lambda: 1, name="t", ui=CHART, meta={"ui": {}})
    with pytest.raises(ValueError, match="has a member ui"):
        mcp.add_app(lambda: HTML, CHART, meta={"ui": {}})


BROKEN: list[tuple[type[Exception], dict[str, Any]]] = [
    *(
        (ValueError, {"csp": {"connectDomains": [origin]}})
        for origin in (
            "example.com",
            "https://example.com/path",
            "https://example.com; script-src *",
            "https://example.com 'unsafe-eval'",
            "https://*",
            "*",
            "javascript://example.com",
            "https://example.com\n",
            "",
            5,
        )
    ),
    (ValueError, {"csp": {"resourceDomains": "https://example.com"}}),
    (TypeError, {"csp": {"connect": ["https://example.com"]}}),
    (TypeError, {"csp": "https://example.com"}),
    (ValueError, {"permissions": ["microfone"]}),
    (TypeError, {"permissions": "camera"}),
    (TypeError, {"prefers_border": "yes"}),
    (TypeError, {"domain": 5}),
    (TypeError, {"mime_type": "text/html"}),
]


@pytest.mark.parametrize(("error", "options"), BROKEN)
def test_what_a_host_could_not_enforce_is_refused(error: type[Exception], options: dict[str, Any]) -> None:
    mcp = MCPServer("t")
    with pytest.raises(error):
        mcp.add_app(lambda: HTML, CHART, **options)
    assert not mcp.registry.resources


@pytest.mark.parametrize("uri", ["https://example.com/", "ui://a/{b}", 5])
def test_an_app_has_a_uri_of_its_own_kind(uri: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="ui://"):
        MCPServer("t").app(uri)(lambda: HTML)


def test_an_app_may_ask_for_scopes() -> None:
    mcp = MCPServer("t")
    mcp.add_app(lambda: HTML, CHART, auth=require_scopes("sales:read"), title="Sales", description="By month")
    (app,) = mcp.registry.resources
    assert app.requirements is not None
    assert (app.title, app.description) == ("Sales", "By month")
