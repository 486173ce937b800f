"""`initialize`: how a session comes to be, and how its version is settled."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from tests.transports.http.harness import LEGACY, MODERN, OLDER, SSE, Oracle, request, serving
from trio_mcp import MCPServer
from trio_mcp.protocol.types import Icon

VERSIONS = [*OLDER, LEGACY]


def everything() -> MCPServer:
    """A server that has one of each."""
    mcp = MCPServer(
        "test",
        version="7",
        title="Test",
        description="For tests",
        website_url="https://example.com",
        icons=[Icon(src="https://example.com/icon.png")],
        instructions="Be kind.",
    )

    @mcp.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @mcp.resource("note://{name}")
    async def note(name: str) -> str:
        return name

    @mcp.prompt
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @mcp.completion("greet", "name")
    async def names(value: str) -> list[str]:
        return [value]

    return mcp


@pytest.mark.requirement("I1", "I2")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_version_we_serve_is_answered_with_itself(version: str) -> None:
    async with serving(MCPServer("test")) as wire:
        assert (await wire.initialize(version).result())["protocolVersion"] == version


@pytest.mark.requirement("I2")
@pytest.mark.parametrize("version", ["2024-10-07", "1999-01-01", "2026-07-28", "2099-01-01", "", "latest"])
async def test_any_other_version_is_answered_with_our_latest_that_has_sessions(version: str) -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.initialize(version)
        exchange.oracle = Oracle(LEGACY)
        exchange.oracle.asked(0, "initialize")
        result = await exchange.result()
        assert result["protocolVersion"] == LEGACY
        session = {"mcp-session-id": exchange.headers["mcp-session-id"]}
        ping = wire.post(request(1, "ping"), session)
        ping.oracle.asked(1, "ping")
        assert await ping.result() == {}
    assert HANDSHAKE_PROTOCOL_VERSIONS[-1] == LEGACY


@pytest.mark.requirement("I1", "gap-fields-by-version")
@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("2025-03-26", {"name", "version"}),
        ("2025-06-18", {"name", "version", "title"}),
        ("2025-11-25", {"name", "version", "title", "description", "icons", "websiteUrl"}),
    ],
)
async def test_the_server_describes_itself_in_the_fields_of_the_version(version: str, known: set[str]) -> None:
    async with serving(everything()) as wire:
        result = await wire.initialize(version).result()
        assert set(result["serverInfo"]) == known
        assert result["instructions"] == "Be kind."


@pytest.mark.requirement("I6")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_capability_is_declared_for_whatever_is_offered(version: str) -> None:
    async with serving(everything()) as wire:
        assert (await wire.initialize(version).result())["capabilities"] == {
            "tools": {"listChanged": True},
            "resources": {"subscribe": True, "listChanged": True},
            "prompts": {"listChanged": True},
            **({} if version == "2024-11-05" else {"completions": {}}),
            "logging": {},
        }
    async with serving(MCPServer("test")) as wire:
        assert (await wire.initialize(version).result())["capabilities"] == {"logging": {}}


@pytest.mark.requirement("S2", "S3", "SB2")
async def test_session_ids_are_visible_ascii_long_and_never_alike() -> None:
    async with serving(MCPServer("test"), node_id="node-7") as wire:
        ids = {(await wire.open()).id for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"node-7\.[A-Za-z0-9_-]{22,}", it) for it in ids)


@pytest.mark.requirement("S1")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"protocolVersion": LEGACY, "capabilities": {}},
        {"protocolVersion": LEGACY, "clientInfo": {}},
        {"protocolVersion": 5, "capabilities": {}, "clientInfo": {}},
        {"protocolVersion": LEGACY, "capabilities": [], "clientInfo": {}},
        {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": "me"},
    ],
)
async def test_a_malformed_initialize_opens_no_session(params: dict[str, Any]) -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.post(request(1, "initialize", params))
        assert (await exchange.error())["code"] == -32602
        assert len(wire.app.hub) == 0


@pytest.mark.requirement("S9")
async def test_header_names_are_case_insensitive() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        shouted = {"mcp-session-id": None, "MCP-SESSION-ID": session.id, "MCP-Protocol-Version": LEGACY}
        assert await session.start("ping", headers=shouted).result() == {}


@pytest.mark.requirement("V4")
@pytest.mark.parametrize("header", [LEGACY, "2025-03-26", "2024-11-05"])
async def test_a_version_header_on_initialize_neither_helps_nor_hurts(header: str) -> None:
    async with serving(MCPServer("test")) as wire:
        assert await wire.initialize(headers={"mcp-protocol-version": header}).head() == 200


async def test_a_stale_session_id_on_initialize_is_ignored() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        assert await session.delete().nothing() == 204
        exchange = wire.initialize(headers={"mcp-session-id": session.id})
        assert await exchange.head() == 200
        assert exchange.headers["mcp-session-id"] != session.id


@pytest.mark.requirement("S8", "weak-second-initialize")
async def test_a_second_initialize_in_a_live_session_is_refused_and_changes_nothing() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open("2025-06-18")
        exchange = wire.initialize("2025-11-25", headers={"mcp-session-id": session.id})
        assert await exchange.head() == 400
        assert (await exchange.error())["code"] == -32600
        assert [it.protocol_version for it in wire.app.hub.sessions] == ["2025-06-18"]
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("weak-requests-before-initialized", "I7")
async def test_a_session_serves_requests_before_it_hears_initialized() -> None:
    async with serving(everything()) as wire:
        exchange = wire.initialize()
        await exchange.result()
        headers = {"mcp-session-id": exchange.headers["mcp-session-id"]}
        for number, method in enumerate(("ping", "tools/list"), 1):
            later = wire.post(request(number, method), headers)
            later.oracle.asked(number, method)
            await later.result()


@pytest.mark.requirement("S4", "weak-minted-ids")
async def test_without_a_session_id_only_initialize_is_taken() -> None:
    async with serving(everything()) as wire:
        for body in (request(1, "ping"), request(1, "tools/list"), [request(1, "ping")]):
            assert await wire.post(body).head() == 400
        assert await wire.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).head() == 400
        assert await wire.start("GET", {"accept": SSE}).head() == 400
        assert await wire.start("DELETE").head() == 400


@pytest.mark.requirement("V2", "weak-version-header")
@pytest.mark.parametrize("header", ["1999-01-01", "2024-10-07", MODERN, "nonsense"])
async def test_an_unsupported_version_header_in_a_session_gets_400_that_names_the_header(header: str) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        headers: dict[str, str | None] = {"mcp-protocol-version": header}
        exchange = session.start("ping", headers=headers)
        assert await exchange.head() == 400
        assert "MCP-Protocol-Version" in (await exchange.error())["message"]
        for other in (session.listen(headers=headers), session.delete(headers)):
            assert await other.head() >= 400
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("V1", "V3")
@pytest.mark.parametrize("header", [None, "2025-03-26", "2025-06-18"])
async def test_the_negotiated_version_stands_whatever_legacy_version_a_header_names(header: str | None) -> None:
    async with serving(everything()) as wire:
        session = await wire.open()
        (tool,) = (await session.start("tools/list", headers={"mcp-protocol-version": header}).result())["tools"]
        assert "outputSchema" in tool


async def test_a_full_server_refuses_initialize_alone_and_says_when_to_come_back() -> None:
    async with serving(MCPServer("test"), max_sessions=1) as wire:
        session = await wire.open()
        assert await session.start("ping").result() == {}
        exchange = wire.initialize()
        assert await exchange.head() == 503
        assert int(exchange.headers["retry-after"]) > 0
        assert (await exchange.json())["id"] == 0
        assert await session.start("ping").result() == {}
        assert await wire.modern().start("server/discover").head() == 200
        assert await session.delete().nothing() == 204
        assert await wire.initialize().head() == 200
