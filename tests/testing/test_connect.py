"""`connect` gives the official client on a server in memory, in both eras."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import mcp_types as types
import pydantic
import pytest
import trio

from examples.everything import mcp as everything
from examples.quickstart import mcp as quickstart
from trio_mcp import Context, MCPServer
from trio_mcp.testing import connect

MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}


def text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


@pytest.mark.parametrize(("mode", "version"), MODES.items())
async def test_a_tool_is_called_in_the_version_of_the_mode(mode: str, version: str) -> None:
    async with connect(quickstart, mode) as client:
        assert client.protocol_version == version
        assert text(await client.call_tool("add", {"a": 1, "b": 2})) == "3"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_arrives_while_the_tool_runs(mode: str) -> None:
    server = MCPServer("progress")
    seen = trio.Event()

    @server.tool
    async def wait_until_seen(ctx: Context) -> str:
        """Report progress and go on when the client has it."""
        await ctx.report_progress(1, 2)
        await seen.wait()
        return "seen"

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert (progress, total) == (1, 2)
        seen.set()

    async with connect(server, mode) as client:
        with trio.fail_after(60):
            assert text(await client.call_tool("wait_until_seen", {}, progress_callback=on_progress)) == "seen"


async def answer(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def compose(context: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", model="none", content=types.TextContent(text="Welcome"))


async def roots(context: object) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri=pydantic.FileUrl("file:///home"))])


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_questions_asked_at_the_same_time_are_answered_in_both_eras(mode: str) -> None:
    async with connect(
        everything, mode, elicitation_callback=answer, sampling_callback=compose, list_roots_callback=roots
    ) as client:
        result = await client.call_tool("test_input_required_result_multiple_inputs", {})
    assert text(result) == "Welcome Ada, you have 1 roots"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_the_client_gives_up_is_cancelled_in_the_server(mode: str) -> None:
    server = MCPServer("patience")
    started, stopped = trio.Event(), trio.Event()

    @server.tool
    async def forever() -> None:
        """Never return."""
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with connect(server, mode) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "forever", {})
            await started.wait()
            nursery.cancel_scope.cancel("the client lost its patience")
        with trio.fail_after(60):
            await stopped.wait()
            # The client falls over a reply that comes while it closes: this one comes after that of the cancelled call.
            await client.list_tools()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_the_block_raises_comes_out_as_it_is(mode: str) -> None:
    """Where it came out in seven groups, a failed assertion was lost in two hundred lines."""
    cause = ValueError("the cause")
    wrong = AssertionError("as the test wrote it")
    with pytest.raises(AssertionError) as caught:
        async with connect(quickstart, mode):
            raise wrong from cause
    assert caught.value is wrong
    assert (wrong.__cause__, wrong.__context__) == (cause, None)
    assert [entry.name for entry in caught.traceback] == [test_what_the_block_raises_comes_out_as_it_is.__name__]


async def test_a_group_of_the_block_is_left_as_it_is() -> None:
    group = ExceptionGroup("of the test", [ValueError("one"), ValueError("two")])
    with pytest.RaisesGroup(ValueError, ValueError) as caught:
        async with connect(quickstart):
            raise group
    assert caught.value is group


async def test_what_the_server_raises_beside_the_block_comes_in_a_group() -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise OSError("the cleanup fails")

    with pytest.raises(OSError, match="the cleanup fails"):
        async with connect(MCPServer("falls over", lifespan=lifespan)):
            raise AssertionError("the test fails, too")


async def test_the_session_ends_with_the_block() -> None:
    app = quickstart.http_app()
    async with app.running():
        async with connect(app, "legacy"):
            assert len(app.hub) == 1
        with trio.fail_after(60):
            while len(app.hub):  # noqa: ASYNC110 a session has nobody to tell of its end
                await trio.lowlevel.checkpoint()


async def test_two_clients_may_share_one_running_app() -> None:
    app = everything.http_app()
    async with app.running(), connect(app, "legacy") as one, connect(app, "auto") as other:
        assert text(await one.call_tool("add", {"a": 1, "b": 2})) == text(
            await other.call_tool("add", {"a": 1, "b": 2})
        )


async def test_headers_reach_the_server() -> None:
    server = MCPServer("headers")

    @server.tool
    async def tenant(ctx: Context) -> str:
        """Say whose call it is."""
        assert ctx.headers is not None
        value = ctx.headers["X-Tenant"]
        return value

    async with connect(server, headers={"X-Tenant": "blue"}) as client:
        assert text(await client.call_tool("tenant", {})) == "blue"


async def test_without_the_official_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trio_mcp.testing.official", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ImportError, match=r"pip install 'mcp>=2\.3'"):
        async with connect(quickstart):
            pass
    monkeypatch.delitem(sys.modules, "trio_mcp.testing.follow_tasks", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    with pytest.raises(ImportError, match=r"pip install 'mcp>=2\.3'"):
        from trio_mcp.testing import FollowTasks  # noqa: F401
