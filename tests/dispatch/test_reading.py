"""`resources/read`, `prompts/get` and `completion/complete`: found or not, and what is sent."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer, UncheckedPath
from trio_mcp.protocol.errors import PromptError
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2026_07_28

ALL = pytest.mark.parametrize("version", SERVED_VERSIONS)


@pytest.fixture(scope="module")
def mcp() -> MCPServer:
    """For tests that add nothing to it: to make one takes longer than a test."""
    return made()


def made() -> MCPServer:
    mcp = MCPServer("t")

    @mcp.resource("x://fixed", mime_type="text/plain")
    async def fixed() -> str:
        return "fixed"

    @mcp.resource("x://{city}/{day}")
    async def forecast(city: str, day: int, ctx: Context) -> str:
        return f"{city} {day} {ctx.protocol_version}"

    @mcp.resource("x://any/{rest}")
    async def later(rest: str) -> str:
        raise AssertionError("the first template that matches is the one")

    @mcp.prompt
    async def greet(name: str, tone: str = "warm") -> str:
        return f"greet {name} in a {tone} tone"

    @mcp.prompt
    async def broken() -> str:
        raise PromptError("out of ink")

    @mcp.completion("greet", "name")
    async def names(value: str) -> list[str]:
        return [name for name in ("ann", "anna", "bob") if name.startswith(value)]

    @mcp.completion("x://{city}/{day}", "day")
    def days(value: str, arguments: dict[str, str]) -> list[str]:
        return [f"{arguments.get('city', '?')}-{value}{n}" for n in range(200)]

    return mcp


@ALL
async def test_a_resource_is_read(mcp: MCPServer, version: str) -> None:
    result = await DispatchHarness(mcp, version).result("resources/read", {"uri": "x://fixed"})
    assert result["contents"] == [{"uri": "x://fixed", "mimeType": "text/plain", "text": "fixed"}]


@ALL
async def test_a_template_is_read_by_the_uri_it_matches(mcp: MCPServer, version: str) -> None:
    result = await DispatchHarness(mcp, version).result("resources/read", {"uri": "x://any/7"})
    assert result["contents"][0]["text"] == f"any 7 {version}"
    assert result["contents"][0]["uri"] == "x://any/7"


@ALL
@pytest.mark.parametrize("params", [{}, {"uri": 1}, {"uri": None}, {"uri": ["x://fixed"]}])
async def test_a_read_needs_a_uri(mcp: MCPServer, version: str, params: dict[str, Any]) -> None:
    assert (await DispatchHarness(mcp, version).error("resources/read", params))["code"] == -32602


@ALL
async def test_a_handler_reads_its_own_servers_resources(version: str) -> None:
    mcp = made()

    @mcp.tool
    async def through(ctx: Context) -> str:
        return str((await ctx.read_resource("x://fixed"))[0]["text"])

    assert (await DispatchHarness(mcp, version).tool("through"))["content"][0]["text"] == "fixed"


@ALL
async def test_a_prompt_is_filled_in(mcp: MCPServer, version: str) -> None:
    result = await DispatchHarness(mcp, version).result("prompts/get", {"name": "greet", "arguments": {"name": "ann"}})
    assert result["messages"] == [
        {"role": "user", "content": {"type": "text", "text": "greet ann in a warm tone"}},
    ]


@ALL
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": "nobody"},
        {"name": "greet"},
        {"name": "greet", "arguments": {"name": 1}},
        {"name": "greet", "arguments": {"tone": "cold"}},
        {"name": "greet", "arguments": "ann"},
    ],
)
async def test_an_unknown_prompt_and_arguments_that_do_not_fit_are_invalid_params(
    mcp: MCPServer, version: str, params: dict[str, Any]
) -> None:
    harness = DispatchHarness(mcp, version)
    assert (await harness.error("prompts/get", params))["code"] == -32602
    assert harness.outbox.status == (400 if version >= V2026_07_28 else 200)


async def test_a_prompts_own_words_are_an_internal_error(mcp: MCPServer, caplog: pytest.LogCaptureFixture) -> None:
    error = await DispatchHarness(mcp).error("prompts/get", {"name": "broken"})
    assert error == {"code": -32603, "message": "out of ink"}
    assert not caplog.records


def completing(ref: Any, name: Any = "name", value: Any = "an", **more: Any) -> dict[str, Any]:
    return {"ref": ref, "argument": {"name": name, "value": value}, **more}


GREET = {"type": "ref/prompt", "name": "greet"}
FORECAST = {"type": "ref/resource", "uri": "x://{city}/{day}"}


@ALL
async def test_an_argument_of_a_prompt_is_completed(mcp: MCPServer, version: str) -> None:
    result = await DispatchHarness(mcp, version).result("completion/complete", completing(GREET))
    assert result["completion"]["values"] == ["ann", "anna"]


@ALL
async def test_a_completion_knows_the_other_arguments_and_gives_at_most_100_values(
    mcp: MCPServer, version: str
) -> None:
    params = completing(FORECAST, "day", "x", context={"arguments": {"city": "Bern"}})
    completion = (await DispatchHarness(mcp, version).result("completion/complete", params))["completion"]
    assert completion["values"][:2] == ["Bern-x0", "Bern-x1"]
    assert len(completion["values"]) == 100
    assert completion["hasMore"]


@ALL
async def test_an_argument_nobody_completes_has_no_suggestions(mcp: MCPServer, version: str) -> None:
    for params in (completing(GREET, "tone"), completing({"type": "ref/resource", "uri": "x://fixed"})):
        assert (await DispatchHarness(mcp, version).result("completion/complete", params))["completion"]["values"] == []


@ALL
@pytest.mark.parametrize(
    "params",
    [
        {},
        completing({}),
        completing({"type": "ref/tool", "name": "greet"}),
        completing({"type": "ref/prompt"}),
        completing({"type": "ref/prompt", "name": "nobody"}),
        completing({"type": "ref/resource", "uri": "x://nowhere/{x}"}),
        completing({"type": "ref/resource", "name": "greet"}),
        completing(GREET, None),
        completing(GREET, "name", 3),
        completing("greet"),
        completing(GREET, context=[]),
        completing(GREET, context={"arguments": []}),
    ],
)
async def test_a_completion_of_nothing_we_have_is_invalid_params(
    mcp: MCPServer, version: str, params: dict[str, Any]
) -> None:
    assert (await DispatchHarness(mcp, version).error("completion/complete", params))["code"] == -32602


@ALL
async def test_a_path_that_leaves_its_folder_is_not_found_and_a_marked_one_is_read(version: str) -> None:
    mcp = MCPServer("t")

    @mcp.resource("docs://{+path}")
    async def page(path: str) -> str:
        return path

    @mcp.resource("any://{+path}")
    async def anything(path: Annotated[str, UncheckedPath]) -> str:
        return path

    harness = DispatchHarness(mcp, version)
    for uri in ("docs:///etc/passwd", "docs://%2Fetc%2Fpasswd", "docs://a/..%5c..", "docs://C:x"):
        assert (await harness.error("resources/read", {"uri": uri}))["data"] == {"uri": uri}
    result = await harness.result("resources/read", {"uri": "any://%2Fetc/../x"})
    assert result["contents"][0]["text"] == "/etc/../x"
