"""The official Python client, `mcp` 2.3, on Trio: `python_2_3.py URL legacy|auto`."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from steps import Steps, text_of

VERSIONS = {"legacy": "2025-11-25", "auto": "2026-07-28"}


@dataclass
class Seen:
    """What went over the wire and what the client was told."""

    session_id: str = ""
    last_event_ids: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    tools_changed: anyio.Event = field(default_factory=anyio.Event)

    async def on_request(self, request: httpx2.Request) -> None:
        if last := request.headers.get("last-event-id"):
            self.last_event_ids.append(last)

    async def on_response(self, response: httpx2.Response) -> None:
        self.session_id = response.headers.get("mcp-session-id", self.session_id)

    async def on_message(self, message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.tools_changed.set()

    async def on_elicitation(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.questions.append(params.message)
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.org"})


@asynccontextmanager
async def connected(url: str, mode: str, seen: Seen) -> AsyncIterator[Client]:
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [seen.on_request], "response": [seen.on_response]}
    async with httpx2.AsyncClient(event_hooks=hooks, timeout=httpx2.Timeout(30, read=300)) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(
            transport, mode=mode, message_handler=seen.on_message, elicitation_callback=seen.on_elicitation
        ) as client:
            yield client


async def call(client: Client, tool: str, **arguments: object) -> str:
    text: str = text_of((await client.call_tool(tool, arguments)).content)
    return text


async def progress(client: Client) -> None:
    got: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        got.append(progress)

    await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
    assert got == [0, 50, 100], got


async def notification(client: Client, mode: str, seen: Seen) -> None:
    if mode == "legacy":
        await client.call_tool("test_trigger_tool_change", {})
        await seen.tools_changed.wait()
        return
    async with client.listen(tools_list_changed=True) as subscription:
        await client.call_tool("test_trigger_tool_change", {})
        async for event in subscription:
            assert type(event).__name__ == "ToolsListChanged", event
            return
    raise AssertionError("the listen stream ended without an event")


async def elicitation(client: Client, seen: Seen) -> None:
    answer = await call(client, "test_elicitation", message="Who are you?")
    assert seen.questions == ["Who are you?"], seen.questions
    assert "accept" in answer, answer
    assert "ada" in answer, answer


async def cancellation(client: Client) -> None:
    before = int(await call(client, "cancelled_count"))
    with anyio.move_on_after(1):
        await client.call_tool("slow", {"seconds": 30})
        raise AssertionError("the slow call ended before it was cancelled")
    while int(await call(client, "cancelled_count")) == before:  # noqa: ASYNC110 the count can only be asked for
        await anyio.sleep(0.05)


async def resume(client: Client, seen: Seen) -> None:
    before = len(seen.last_event_ids)
    answer = await call(client, "test_reconnection")
    assert answer, "no answer"
    assert len(seen.last_event_ids) > before, "the stream was never cut: no request carried Last-Event-ID"


async def closed(url: str, seen: Seen) -> None:
    """The server must have forgotten the session."""
    assert seen.session_id, "the server gave no session id"
    headers = {"mcp-session-id": seen.session_id, "accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=headers) as http:
        answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert answer.status_code == 404, f"after the close the session answers {answer.status_code}"


async def converse(client: Client, mode: str, seen: Seen, steps: Steps) -> None:
    async with steps.step("list"):
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert "add" in names, names
    async with steps.step("call"):
        assert (answer := await call(client, "add", a=1, b=2)) == "3", answer
    async with steps.step("progress"):
        await progress(client)
    async with steps.step("notification"):
        await notification(client, mode, seen)
    async with steps.step("elicitation"):
        await elicitation(client, seen)
    if mode == "legacy":  # 2026-07-28 has no resumption
        async with steps.step("resume"):
            await resume(client, seen)
    async with steps.step("cancellation"):
        await cancellation(client)


async def main(url: str, mode: str) -> None:
    steps, seen = Steps(), Seen()
    async with steps.conversation():
        async with connected(url, mode, seen) as client:
            async with steps.step("connect"):
                assert client.protocol_version == VERSIONS[mode], client.protocol_version
            await converse(client, mode, seen, steps)
        async with steps.step("close"):
            if mode == "legacy":
                await closed(url, seen)
    steps.print()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], backend="trio")
