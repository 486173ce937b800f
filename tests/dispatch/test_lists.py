"""`*/list`: pages, cursors, caching, and what each version may see."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest

from tests.doubles import DispatchHarness
from trio_mcp import MCPServer
from trio_mcp.dispatch.options import Options
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2026_07_28

LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
EACH = pytest.mark.parametrize(("method", "member"), LISTS.items())
ALL = pytest.mark.parametrize("version", SERVED_VERSIONS)


def nothing() -> None:
    """Nothing."""


def one(x: str) -> str:
    return x


def full(count: int = 5) -> MCPServer:
    mcp = MCPServer("t")
    for n in range(count):
        mcp.add_tool(nothing, name=f"t{n}")
        mcp.add_resource(nothing, f"x://{n}")
        mcp.add_resource(one, f"y{n}://{{x}}")
        mcp.add_prompt(nothing, name=f"p{n}")
    return mcp


@cache
def five() -> MCPServer:
    """For tests that add nothing to it: to make one takes longer than a test."""
    return full()


async def pages(harness: DispatchHarness, method: str, member: str) -> list[list[Any]]:
    found = []
    params: dict[str, Any] = {}
    while True:
        result = await harness.result(method, params)
        found.append([item.get("uri") or item.get("uriTemplate") or item["name"] for item in result[member]])
        if "nextCursor" not in result:
            return found
        params = {"cursor": result["nextCursor"]}


@EACH
@ALL
async def test_a_list_comes_in_pages_in_the_order_of_registration(method: str, member: str, version: str) -> None:
    found = await pages(DispatchHarness(five(), version, options=Options(page_size=2)), method, member)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [name for page in found for name in page] == sorted(name for page in found for name in page)


@EACH
async def test_a_page_that_ends_the_list_has_no_cursor(method: str, member: str) -> None:
    assert len(await pages(DispatchHarness(full(4), options=Options(page_size=2)), method, member)) == 2


@EACH
@ALL
@pytest.mark.parametrize("cursor", ["0", "2", "nonsense", 2, [], {}])
async def test_a_cursor_that_we_did_not_give_out_is_invalid_params(
    method: str, member: str, version: str, cursor: object
) -> None:
    error = await DispatchHarness(five(), version, options=Options(page_size=2)).error(method, {"cursor": cursor})
    assert error["code"] == -32602


async def test_a_cursor_belongs_to_its_list() -> None:
    harness = DispatchHarness(full(), options=Options(page_size=2))
    cursor = (await harness.result("tools/list"))["nextCursor"]
    assert (await harness.error("prompts/list", {"cursor": cursor}))["code"] == -32602


async def test_a_null_cursor_is_none() -> None:
    assert len((await DispatchHarness(full()).result("tools/list", {"cursor": None}))["tools"]) == 5


async def test_a_cursor_is_good_however_long_its_page_was_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = DispatchHarness(full(), options=Options(page_size=2))
    await harness.result("tools/list")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86_400)
    assert len(await pages(harness, "tools/list", "tools")) == 3


async def test_a_cursor_past_a_list_that_has_shrunk_gives_an_empty_page() -> None:
    mcp = full()
    harness = DispatchHarness(mcp, options=Options(page_size=4))
    cursor = (await harness.result("tools/list"))["nextCursor"]
    for n in range(3):
        mcp.remove_tool(f"t{n}")
    assert (await harness.result("tools/list", {"cursor": cursor}))["tools"] == []


@EACH
async def test_a_change_of_the_registry_shows_in_the_next_list(method: str, member: str) -> None:
    mcp = full(1)
    harness = DispatchHarness(mcp)
    before = (await harness.result(method))[member]
    assert (await harness.result(method))[member] == before
    mcp.add_tool(nothing, name="new")
    mcp.add_resource(nothing, "x://new")
    mcp.add_resource(one, "new://{x}")
    mcp.add_prompt(nothing, name="new")
    assert len((await harness.result(method))[member]) == 2


@pytest.mark.parametrize("private", [False, True])
async def test_only_modern_lists_say_how_long_they_may_be_cached(private: bool) -> None:
    options = Options(cache_ttl=1.5, private_lists=private)
    for version in SERVED_VERSIONS:
        for method in (*LISTS, "server/discover"):
            if method == "server/discover" and version < V2026_07_28:
                continue
            result = await DispatchHarness(five(), version, options=options).result(method)
            hints = {name: result.get(name) for name in ("ttlMs", "cacheScope")}
            expected = {"ttlMs": 1500, "cacheScope": "private" if private else "public"}
            assert hints == (expected if version >= V2026_07_28 else dict.fromkeys(hints))


async def test_discovery_names_versions_capabilities_and_instructions() -> None:
    mcp = full(1)
    mcp.instructions = "be kind"
    result = await DispatchHarness(mcp, "2026-07-28").result("server/discover")
    assert result["supportedVersions"] == list(SERVED_VERSIONS)
    assert result["instructions"] == "be kind"
    assert result["capabilities"] == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "prompts": {"listChanged": True},
        "logging": {},
    }
    assert "serverInfo" not in result


@pytest.mark.parametrize("bound", ["page_size", "max_in_flight", "max_listen_streams", "worker_threads"])
def test_a_bound_below_one_is_refused(bound: str) -> None:
    none: dict[str, Any] = {bound: 0}
    with pytest.raises(ValueError, match=f"{bound}= of Options is at least 1, not 0"):
        Options(**none)
