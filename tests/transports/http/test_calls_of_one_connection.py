"""Calls of 2026-07-28 that come one after the other on one connection, over a real socket: each ends alone, however it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import open_stream_to_socket_listener

from tests.rig.waiting import PATIENCE
from trio_mcp import Context, MCPServer
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Limits, open_listeners, serve

pytestmark = pytest.mark.sockets

CAPABLE: dict[str, Any] = {"elicitation": {"form": {}}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": CAPABLE,
    "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
}


class Size(BaseModel):
    size: int


class Watched:
    """A server whose tools end in every way, and what became of the one that works."""

    def __init__(self) -> None:
        self.mcp = MCPServer("t")
        self.started = trio.Event()
        self.fates: list[str] = []
        self.scopes: list[trio.CancelScope] = []

        @self.mcp.tool
        async def add(a: int, b: int) -> int:
            await trio.lowlevel.checkpoint()
            return a + b

        @self.mcp.tool
        async def ask(ctx: Context) -> str:
            answer = await ctx.elicit("Size?", Size)
            return f"size {answer.data.size if answer.data else 0}"

        @self.mcp.tool
        async def ask_and_catch(ctx: Context) -> str:
            try:
                await ctx.elicit("Size?", Size)
            except trio.Cancelled:
                self.fates.append("asked")
                raise
            return "no question"

        @self.mcp.tool
        async def work(ctx: Context, say: bool = False) -> str:
            self.started.set()
            try:
                if say:
                    await ctx.report_progress(1)
                await trio.sleep(3600)
            except trio.Cancelled:
                self.fates.append("cancelled")
                raise
            return "worked"

        @self.mcp.tool
        async def crash() -> str:
            raise ValueError("mine")

        @self.mcp.tool
        async def leave_open() -> str:
            self.scopes.append(trio.CancelScope())
            self.scopes[-1].__enter__()
            return "left"

        @self.mcp.tool
        async def report(ctx: Context) -> str:
            await ctx.report_progress(1)
            return "reported"


class Client:
    """One connection to the server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._heard = b""

    async def say(self, tool: str, arguments: dict[str, Any] | None = None, **params: Any) -> None:
        params = {"name": tool, "arguments": arguments or {}, "_meta": {**META, "progressToken": 1}, **params}
        content = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        head = (
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n"
            "content-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n"
            f"mcp-name: {tool}\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        await self._stream.send_all(head.encode() + content)

    async def hear(self) -> dict[str, Any]:
        """The next response: its last message."""
        head = await self._until(b"\r\n\r\n")
        if b"text/event-stream" in head:
            body = (await self._until(b"\r\n0\r\n\r\n")).rpartition(b"data: ")[2].partition(b"\n")[0]
        else:
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(self._heard) < size:
                await self._more()
            body, self._heard = self._heard[:size], self._heard[size:]
        message: dict[str, Any] = json.loads(body)
        return message

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        await self.say(tool, arguments, **params)
        return await self.hear()

    async def adds(self) -> bool:
        """Whether the connection still serves."""
        result = (await self.call("add", {"a": 2, "b": 3}))["result"]
        return bool(result["content"][0]["text"] == "5")

    async def leave(self) -> None:
        await self._stream.aclose()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._heard:
            await self._more()
        found, _, self._heard = self._heard.partition(mark)
        return found + mark

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        assert data, f"the connection ended after {self._heard!r}"
        self._heard += data


@asynccontextmanager
async def connections(app: HttpApp, count: int = 1) -> AsyncIterator[list[Client]]:
    listeners = await open_listeners(["127.0.0.1:0"])

    async def run(*, task_status: trio.TaskStatus[object]) -> None:
        await serve(app, listeners, limits=Limits(), direct=app, task_status=task_status)

    with trio.fail_after(PATIENCE):
        async with app.running(), trio.open_nursery() as nursery:
            await nursery.start(run)
            async with AsyncExitStack() as stack:
                streams = [await open_stream_to_socket_listener(listeners[0]) for _ in range(count)]
                yield [Client(await stack.enter_async_context(stream)) for stream in streams]
            nursery.cancel_scope.cancel("the test is over")


async def test_a_question_ends_its_call_and_the_answer_comes_on_the_same_connection() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        assert await client.adds()
        for size in range(5):
            asked = (await client.call("ask"))["result"]
            assert asked["resultType"] == "input_required"
            ((key, question),) = asked["inputRequests"].items()
            assert question["method"] == "elicitation/create"
            answers = {key: {"action": "accept", "content": {"size": size}}}
            retry = {"inputResponses": answers, "requestState": asked["requestState"]}
            result = (await client.call("ask", **retry))["result"]
            assert result["content"][0]["text"] == f"size {size}"
            assert await client.adds()


async def test_a_handler_that_sees_its_cancellation_by_a_question_ends_alone() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        for _ in range(3):
            assert (await client.call("ask_and_catch"))["result"]["resultType"] == "input_required"
            assert await client.adds()
    assert watched.fates == ["asked"] * 3


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("say", [False, True], ids=["held back", "streaming"])
async def test_a_client_that_leaves_cancels_its_call_and_no_other(before: int, say: bool) -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app(), 2) as (client, other):
        assert await other.adds()
        for _ in range(before):
            assert await client.adds()
        await client.say("work", {"say": say})
        await watched.started.wait()
        await client.leave()
        while not watched.fates:
            assert await other.adds()
    assert watched.fates == ["cancelled"]


async def test_a_crash_ends_its_call_alone() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        for _ in range(3):
            assert (await client.call("crash"))["result"]["isError"]
            assert await client.adds()


async def test_a_scope_that_a_handler_leaves_open_is_a_crash_of_its_call_alone() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        assert await client.adds()
        for _ in range(2):
            assert "Internal error" in (await client.call("leave_open"))["error"]["message"]
            assert await client.adds()
            watched.scopes[-1].cancel()
            assert await client.adds()


async def test_streams_and_answers_follow_each_other_and_are_all_whole() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        for _ in range(3):
            assert (await client.call("report"))["result"]["content"][0]["text"] == "reported"
            assert await client.adds()
            assert (await client.call("ask"))["result"]["resultType"] == "input_required"


async def test_pipelined_calls_are_answered_in_order_when_one_of_them_ends_with_a_question() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        for tool in ("ask", "add", "ask", "report", "add"):
            await client.say(tool, {"a": 1, "b": 1} if tool == "add" else None)
        heard = [(await client.hear())["result"] for _ in range(5)]
    kinds = [each.get("resultType") for each in heard]
    assert kinds == ["input_required", "complete", "input_required", "complete", "complete"]


async def test_a_stop_cancels_what_runs_on_a_connection_that_has_answered_before() -> None:
    watched = Watched()
    async with connections(watched.mcp.http_app()) as (client,):
        assert await client.adds()
        assert await client.adds()
        await client.say("work")
        await watched.started.wait()
    assert watched.fates == ["cancelled"]
