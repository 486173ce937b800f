"""What a server's methods do in threads: {register, remove, notify, session, ctx} by {sync tool, plain thread, `trio.to_thread`}.

Each works, and a listener on another session hears of the change, or raises words that say what to write.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from mcp import Client, MCPError

from trio_mcp import Context, MCPServer, Session
from trio_mcp.testing import connect

pytestmark = pytest.mark.filterwarnings("ignore:resources/subscribe is removed")

PLACES = ("sync tool", "plain thread", "to_thread")

Action = Callable[[MCPServer, Context], object]


def new_tool() -> str:
    return "new"


def in_plain_thread(action: Callable[[], object]) -> None:
    """Raises what the thread raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def server_that(action: Action, place: str) -> MCPServer:
    mcp = MCPServer("threads")

    @mcp.resource("r://x")
    async def x() -> str:
        return "x"

    @mcp.tool
    async def spare() -> str:
        return "spare"

    @mcp.prompt
    async def spare_prompt() -> str:
        return "spare"

    @mcp.tool
    async def touch() -> str:
        mcp.notify_list_changed("prompts")
        return "touched"

    # Each says what it could not do: the words are what the table below looks at.
    def attempt(act: Callable[[], object]) -> str:
        try:
            act()
        except RuntimeError as error:
            return str(error)
        return "done"

    if place == "sync tool":

        @mcp.tool
        def act(ctx: Context) -> str:
            return attempt(partial(action, mcp, ctx))

    elif place == "plain thread":

        @mcp.tool(name_of_act())
        def act_in_thread(ctx: Context) -> str:
            return attempt(partial(in_plain_thread, partial(action, mcp, ctx)))

    else:

        @mcp.tool(name_of_act())
        async def act_to_thread(ctx: Context) -> str:
            return await trio.to_thread.run_sync(attempt, partial(action, mcp, ctx))

    return mcp


def name_of_act() -> str:
    return "act"


class Ear:
    """The notifications one client heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._more = trio.Event()

    async def take(self, message: Any) -> None:
        self.heard.append(getattr(message, "method", ""))
        self._more.set()
        self._more = trio.Event()

    async def hears(self, method: str) -> None:
        with trio.fail_after(20):
            while method not in self.heard:
                await self._more.wait()


@asynccontextmanager
async def two_sessions(mcp: MCPServer) -> AsyncIterator[tuple[Client, Ear]]:
    """A client that calls, and what another session hears."""
    app = mcp.http_app()
    ear = Ear()
    async with app.running(), connect(app, "legacy") as caller:
        async with connect(app, "legacy", message_handler=ear.take) as listener:
            await listener.subscribe_resource("r://x")
            # Its stream is open when it hears the first change.
            with trio.fail_after(20):
                while "notifications/prompts/list_changed" not in ear.heard:
                    await listener.call_tool("touch", {})
                    await trio.testing.wait_all_tasks_blocked()
            ear.heard.clear()
            yield caller, ear


CHANGES: dict[str, tuple[Action, str]] = {
    "register a tool": (lambda mcp, ctx: mcp.tool(new_tool), "tools"),
    "register a resource": (lambda mcp, ctx: mcp.resource("r://new")(new_tool), "resources"),
    "register a template": (lambda mcp, ctx: mcp.resource("r://new/{x}")(lambda x: x), "resources"),
    "register a prompt": (lambda mcp, ctx: mcp.prompt(new_tool), "prompts"),
    "remove a tool": (lambda mcp, ctx: mcp.remove_tool("spare"), "tools"),
    "remove a resource": (lambda mcp, ctx: mcp.remove_resource("r://x"), "resources"),
    "remove a prompt": (lambda mcp, ctx: mcp.remove_prompt("spare_prompt"), "prompts"),
    "notify of a list": (lambda mcp, ctx: mcp.notify_list_changed("tools"), "tools"),
    "notify of a resource": (lambda mcp, ctx: mcp.notify_resource_updated("r://x"), "updated"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", CHANGES)
async def test_another_session_hears_of_a_change_made_in_a_thread(change: str, place: str) -> None:
    action, kind = CHANGES[change]
    method = "notifications/resources/updated" if kind == "updated" else f"notifications/{kind}/list_changed"
    async with two_sessions(server_that(action, place)) as (caller, ear):
        assert await text_of(caller, "act") == "done"
        await ear.hears(method)
        # Nothing is deafened: what the loop itself tells next is heard too.
        ear.heard.clear()
        await caller.call_tool("touch", {})
        await ear.hears("notifications/prompts/list_changed")


def session_of(ctx: Context) -> Session:
    assert ctx.session is not None
    return ctx.session


ASYNC_METHODS: dict[str, Action] = {
    "ctx.info": lambda mcp, ctx: ctx.info("x"),
    "ctx.log": lambda mcp, ctx: ctx.log("info", "x"),
    "ctx.report_progress": lambda mcp, ctx: ctx.report_progress(1),
    "ctx.notify_tools_changed": lambda mcp, ctx: ctx.notify_tools_changed(),
    "ctx.notify_resource_updated": lambda mcp, ctx: ctx.notify_resource_updated("r://x"),
    "ctx.read_resource": lambda mcp, ctx: ctx.read_resource("r://x"),
    "ctx.elicit": lambda mcp, ctx: ctx.elicit("?", {}),
    "ctx.elicit_url": lambda mcp, ctx: ctx.elicit_url("?", "https://x.example"),
    "ctx.sample": lambda mcp, ctx: ctx.sample("?", max_tokens=1),
    "ctx.list_roots": lambda mcp, ctx: ctx.list_roots(),
    "ctx.close_stream": lambda mcp, ctx: ctx.close_stream(),
    "session.log": lambda mcp, ctx: session_of(ctx).log("info", "x"),
    "session.notify_tools_changed": lambda mcp, ctx: session_of(ctx).notify_tools_changed(),
    "session.notify_resource_updated": lambda mcp, ctx: session_of(ctx).notify_resource_updated("r://x"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ASYNC_METHODS)
async def test_an_async_method_called_in_a_thread_says_what_to_write(method: str, place: str) -> None:
    async with connect(server_that(ASYNC_METHODS[method], place), "legacy") as client:
        words = await text_of(client, "act")
    assert f"trio.from_thread.run({method}, …)" in words
    assert "trio_token" in words


def as_the_words_say(mcp: MCPServer, ctx: Context) -> None:
    trio.from_thread.run(ctx.info, "from a thread")
    trio.from_thread.run(ctx.notify_tools_changed)
    trio.from_thread.run(session_of(ctx).notify_tools_changed)


@pytest.mark.parametrize("place", ["sync tool", "to_thread"])
async def test_what_the_words_say_works(place: str) -> None:
    async with two_sessions(server_that(as_the_words_say, place)) as (caller, ear):
        assert await text_of(caller, "act") == "done"
        await ear.hears("notifications/tools/list_changed")


async def test_what_the_words_say_of_a_thread_of_ones_own_works() -> None:
    token = trio.lowlevel.current_trio_token()

    def action(mcp: MCPServer, ctx: Context) -> None:
        trio.from_thread.run(ctx.notify_tools_changed, trio_token=token)

    async with two_sessions(server_that(action, "plain thread")) as (caller, ear):
        assert await text_of(caller, "act") == "done"
        await ear.hears("notifications/tools/list_changed")


@pytest.mark.parametrize("place", PLACES)
async def test_a_session_takes_tasks_and_its_end_from_a_thread(place: str) -> None:
    began, ended = trio.Event(), trio.Event()

    async def task() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    def action(mcp: MCPServer, ctx: Context) -> None:
        session_of(ctx).start_soon(task)
        session_of(ctx).log_level = "error"

    mcp = server_that(action, place)

    @mcp.tool
    def end(ctx: Context) -> str:
        session_of(ctx).close("deleted")
        return "ended"

    app = mcp.http_app()
    with trio.fail_after(20):
        async with app.running(), connect(app, "legacy") as client, connect(app, "legacy") as other:
            assert await text_of(client, "act") == "done"
            await began.wait()
            # Its own answer may be there before the session is gone.
            with suppress(MCPError):
                await client.call_tool("end", {})
            await ended.wait()
            assert (await other.list_tools()).tools


async def text_of(client: Client, tool: str) -> str:
    (block,) = (await client.call_tool(tool, {})).content
    assert block.type == "text"
    return block.text


def test_two_loops_may_serve_one_server_and_both_hear_what_a_thread_registers() -> None:
    mcp = MCPServer("twice")
    heard = {"one": threading.Event(), "two": threading.Event()}
    ready = threading.Barrier(3, timeout=20)

    async def serve(name: str) -> None:
        app = mcp.http_app()
        async with app.running():
            app.service.bus.subscribe(lambda change: heard[name].set())
            await trio.to_thread.run_sync(ready.wait)
            await trio.to_thread.run_sync(heard[name].wait, 20)

    threads = [threading.Thread(target=trio.run, args=(serve, name)) for name in heard]
    for thread in threads:
        thread.start()
    ready.wait()
    mcp.tool(new_tool)
    for thread in threads:
        thread.join(20)
    assert all(event.is_set() for event in heard.values())


def test_registering_in_threads_loses_nothing_and_no_list_is_stale() -> None:
    mcp = MCPServer("many")
    catalog = mcp.registry.tools

    def register(start: int) -> None:
        for n in range(start, start + 50):
            mcp.add_tool(new_tool, name=f"t{n}")
            catalog.page("2025-11-25", 0, 1_000)

    threads = [threading.Thread(target=register, args=(n * 50,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.page("2025-11-25", 0, 1_000)[0]) == len(catalog) == catalog.version == 200
