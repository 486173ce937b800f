"""What log, metrics and client are told of a call that failed; asyncio code in handlers; a handler that holds the loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.transports.http.harness import ModernClient, SessionClient, Wire, serving
from trio_mcp import Context, MCPServer, Principal, ToolError
from trio_mcp.dispatch.session import Session
from trio_mcp.serving.loop_monitor import monitor_loop
from trio_mcp.transports.http.lifespan import NEEDS_TRIO

FRONTS = ("session", "2026-07-28")


async def client_of(wire: Wire, front: str) -> SessionClient | ModernClient:
    return await wire.open() if front == "session" else wire.modern()


def failing(**options: Any) -> MCPServer:
    mcp = MCPServer("fails", **options)

    @mcp.tool
    async def crash() -> str:
        raise ValueError("the disk is full")

    @mcp.tool
    async def refuse() -> str:
        raise ToolError("not today")

    @mcp.resource("r://x")
    async def resource() -> str:
        raise ValueError("the disk is full")

    return mcp


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.mcp_fields for record in caplog.records if record.getMessage() == name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("front", FRONTS)
async def test_both_lines_of_a_crash_name_the_call_its_caller_and_the_reference(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def authenticate(request: Any) -> Principal:
        return Principal("ann")

    caplog.set_level(logging.INFO)
    async with serving(failing(authenticate=authenticate)) as wire:
        client = await client_of(wire, front)
        result = await client.tool("crash").result()
    ((crash,), (request,)) = lines(caplog, "tool failed"), lines(caplog, "request")
    shared = ("request_id", "session", "client", "principal", "ref", "tool")
    assert {name: crash[name] for name in shared} == {name: request[name] for name in shared}
    assert (crash["client"], crash["principal"]) == ("test", Principal("ann").log_name)
    assert (crash["session"] is None) == (front != "session")
    assert crash["ref"] in result["content"][0]["text"]
    assert request["status"] == "crash"


@pytest.mark.parametrize(("tool", "status"), [("crash", "crash"), ("refuse", "tool_error")])
async def test_a_crash_and_a_tools_own_words_are_different_in_the_metrics(tool: str, status: str) -> None:
    async with serving(failing()) as wire:
        await wire.modern().tool(tool).result()
        page = wire.app.service.metrics.render()[0].decode()
    assert f'error_type="{status}",gen_ai_tool_name="{tool}"' in page


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("masked", [True, False])
async def test_the_text_of_an_exception_is_shown_only_where_the_server_says_so(front: str, masked: bool) -> None:
    async with serving(failing(mask_errors=masked)) as wire:
        client = await client_of(wire, front)
        tool = (await client.tool("crash").result())["content"][0]["text"]
        resource = (await client.start("resources/read", {"uri": "r://x"}).error())["message"]
    for words in (tool, resource):
        assert "(ref " in words
        assert ("the disk is full" in words) is not masked


async def test_the_log_says_once_that_texts_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(failing()) as wire:
        for _ in range(2):
            await wire.modern().tool("crash").result()
    first, second = lines(caplog, "tool failed")
    assert "mask_errors=False" in first["hint"]
    assert second["hint"] is None


async def answer() -> str:
    await asyncio.sleep(0)
    return "from asyncio"


def with_asyncio() -> MCPServer:
    mcp = MCPServer("bridges")
    loop = asyncio.new_event_loop()

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    mcp = MCPServer("bridges", lifespan=lifespan)

    @mcp.tool
    def in_sync() -> str:
        return asyncio.run(answer())

    @mcp.tool
    async def in_thread() -> str:
        # Not a coroutine function: the coroutine is made where it runs.
        return await trio.to_thread.run_sync(lambda: asyncio.run(answer()), abandon_on_cancel=True)

    @mcp.tool
    async def handed_over() -> str:
        return await trio.to_thread.run_sync(asyncio.run, answer())

    @mcp.tool
    async def in_loop_of_its_own() -> str:
        return await trio.to_thread.run_sync(asyncio.run_coroutine_threadsafe(answer(), loop).result)

    @mcp.tool
    async def create_task() -> None:
        unstarted = answer()
        try:
            task = asyncio.create_task(unstarted)
            task.cancel()
        finally:
            unstarted.close()

    @mcp.tool
    async def await_future() -> None:
        await asyncio.Future(loop=loop)

    return mcp


@pytest.mark.parametrize("tool", ["in_sync", "in_thread", "handed_over", "in_loop_of_its_own"])
async def test_each_bridge_to_asyncio_works(tool: str) -> None:
    async with serving(with_asyncio()) as wire:
        assert (await wire.modern().tool(tool).result())["structuredContent"] == {"result": "from asyncio"}


@pytest.mark.parametrize("tool", ["create_task", "await_future"])
async def test_asyncio_code_in_a_handler_is_told_of_the_bridges(tool: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_asyncio()) as wire:
        await wire.modern().tool(tool).result()
    (line,) = lines(caplog, "tool failed")
    assert "trio.to_thread" in line["hint"]


async def test_a_handler_without_a_session_is_told_that_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def welcome(ctx: Context) -> None:
        await ctx.session.log("info", "welcome")  # type: ignore[union-attr]

    async with serving(mcp) as wire:
        await wire.modern().tool("welcome").result()
    (line,) = lines(caplog, "tool failed")
    assert line["hint"].startswith("ctx.session is None on 2026-07-28")


async def test_a_promise_that_is_broken_is_said_in_the_first_line(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def count() -> int:
        return "many"  # type: ignore[return-value]

    async with serving(mcp) as wire:
        await wire.modern().tool("count").result()
    (record,) = (each for each in caplog.records if each.message == "tool failed")
    assert record.exc_info is not None
    first = str(record.exc_info[1]).partition("\n")[0]
    assert first.startswith("The tool's result does not conform to its output schema, which is its return annotation")
    assert first.endswith('got "many"')


def test_an_app_under_asyncio_says_so_at_its_start_and_at_a_request() -> None:
    app = MCPServer("x").http_app()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        await app({"type": "lifespan"}, receive, send)
        assert sent == [{"type": "lifespan.startup.failed", "message": NEEDS_TRIO}]
        with pytest.raises(RuntimeError, match="runs on Trio"):
            await app({"type": "http", "path": "/mcp"}, receive, send)

    asyncio.run(serve())


def test_an_app_whose_lifespan_is_passed_on_says_the_same_on_asyncio() -> None:
    """As `Starlette(lifespan=lambda _: app.running())` does under uvicorn."""

    async def enter() -> None:
        async with MCPServer("x").http_app().running():
            pass

    with pytest.raises(RuntimeError, match="trio-mcp runs on Trio, and this server runs its apps on asyncio"):
        asyncio.run(enter())


@pytest.mark.slow
async def test_what_held_the_loop_is_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("blocks")

    @mcp.tool
    async def hold() -> str:
        time.sleep(2.6)  # noqa: ASYNC251 - what is under test
        return "held"

    async with serving(mcp) as wire, trio.open_nursery() as nursery:
        nursery.start_soon(monitor_loop, wire.app.service)
        await trio.testing.wait_all_tasks_blocked()
        await wire.modern().tool("hold").result()
        with trio.fail_after(20):
            while not lines(caplog, "event loop blocked"):  # noqa: ASYNC110
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
        page = wire.app.service.metrics.render()[0].decode()
    (line,) = lines(caplog, "event loop blocked")
    assert (line["tool"], line["method"]) == ("hold", "tools/call")
    assert line["where"].endswith("in hold")
    assert "trio_mcp_loop_blocked_total 1.0" in page


setting = contextvars.ContextVar("setting", default="none")


@pytest.mark.parametrize("front", FRONTS)
async def test_context_variables_of_the_lifespan_reach_calls_and_those_of_a_request_do_not(front: str) -> None:
    hooked: list[str] = []

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        setting.set("lifespan")
        yield

    mcp = MCPServer("x", lifespan=lifespan)

    @mcp.tool
    async def read() -> str:
        return setting.get()

    @mcp.tool
    def read_in_thread() -> str:
        return setting.get()

    @mcp.tool
    async def start(ctx: Context) -> None:
        setting.set("request")
        if ctx.session is not None:
            ctx.session.start_soon(note, ctx.session)

    @mcp.on_session
    async def note(session: Session) -> None:
        hooked.append(setting.get())

    async with serving(mcp) as wire:
        client = await client_of(wire, front)
        await client.tool("start").result()
        for tool in ("read", "read_in_thread"):
            assert (await client.tool(tool).result())["structuredContent"] == {"result": "lifespan"}
        await trio.testing.wait_all_tasks_blocked()
    assert set(hooked) <= {"lifespan"}
