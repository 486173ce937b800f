"""The official Python client of the 1.x line, `mcp` 1.30: `python_1_30.py URL [websocket]`. It speaks to sessions only."""

import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx  # noqa: ASYNC127 what this release of the client is built on
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from steps import Steps, text_of


@dataclass
class Seen:
    """What went over the wire and what the client was told."""

    session_id: str = ""
    last_event_ids: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    tools_changed: anyio.Event = field(default_factory=anyio.Event)

    async def on_request(self, request: httpx.Request) -> None:
        if last := request.headers.get("last-event-id"):
            self.last_event_ids.append(last)

    async def on_response(self, response: httpx.Response) -> None:
        self.session_id = response.headers.get("mcp-session-id", self.session_id)

    async def on_message(self, message: object) -> None:
        if isinstance(getattr(message, "root", None), types.ToolListChangedNotification):
            self.tools_changed.set()

    async def on_elicitation(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.questions.append(params.message)
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.org"})


@asynccontextmanager
async def connected(url: str, seen: Seen) -> AsyncIterator[ClientSession]:
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [seen.on_request], "response": [seen.on_response]}
    async with (
        httpx.AsyncClient(event_hooks=hooks, timeout=httpx.Timeout(30, read=300)) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(
            read, write, elicitation_callback=seen.on_elicitation, message_handler=seen.on_message
        ) as session,
    ):
        yield session


@asynccontextmanager
async def connected_by_websocket(url: str, seen: Seen) -> AsyncIterator[ClientSession]:
    async with (
        websocket_client(url.replace("http", "ws", 1)) as (read, write),
        ClientSession(
            read, write, elicitation_callback=seen.on_elicitation, message_handler=seen.on_message
        ) as session,
    ):
        yield session


async def call(session: ClientSession, tool: str, **arguments: object) -> str:
    return text_of((await session.call_tool(tool, arguments)).content)


async def progress(session: ClientSession) -> None:
    got: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        got.append(progress)

    await session.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
    assert got == [0, 50, 100], got


async def notification(session: ClientSession, seen: Seen) -> None:
    await call(session, "test_trigger_tool_change")
    await seen.tools_changed.wait()


async def elicitation(session: ClientSession, seen: Seen) -> None:
    answer = await call(session, "test_elicitation", message="Who are you?")
    assert seen.questions == ["Who are you?"], seen.questions
    assert "accept" in answer, answer
    assert "ada" in answer, answer


async def cancellation(session: ClientSession) -> None:
    """This client tells the server nothing when its own call is cancelled, so it is told by hand."""
    before = int(await call(session, "cancelled_count"))
    request_id = session._request_id
    with anyio.move_on_after(1):
        await session.call_tool("slow", {"seconds": 30})
        raise AssertionError("the slow call ended before it was cancelled")
    params = types.CancelledNotificationParams(requestId=request_id, reason="the test says so")
    await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
    while int(await call(session, "cancelled_count")) == before:  # noqa: ASYNC110 the count can only be asked for
        await anyio.sleep(0.05)


async def resume(session: ClientSession, seen: Seen) -> None:
    before = len(seen.last_event_ids)
    answer = await call(session, "test_reconnection")
    assert answer, "no answer"
    assert len(seen.last_event_ids) > before, "the stream was never cut: no request carried Last-Event-ID"


async def closed(url: str, seen: Seen) -> None:
    """The server must have forgotten the session."""
    assert seen.session_id, "the server gave no session id"
    headers = {"mcp-session-id": seen.session_id, "accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(headers=headers) as http:
        answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert answer.status_code == 404, f"after the close the session answers {answer.status_code}"


async def converse(session: ClientSession, seen: Seen, steps: Steps, *, resumes: bool) -> None:
    async with steps.step("connect"):
        version = (await session.initialize()).protocolVersion
        assert version == "2025-11-25", version
    async with steps.step("list"):
        names = [tool.name for tool in (await session.list_tools()).tools]
        assert "add" in names, names
    async with steps.step("call"):
        assert (answer := await call(session, "add", a=1, b=2)) == "3", answer
    async with steps.step("progress"):
        await progress(session)
    async with steps.step("notification"):
        await notification(session, seen)
    async with steps.step("elicitation"):
        await elicitation(session, seen)
    if resumes:
        async with steps.step("resume"):
            await resume(session, seen)
    async with steps.step("cancellation"):
        await cancellation(session)


async def over_http(url: str, steps: Steps, seen: Seen) -> None:
    async with connected(url, seen) as session:
        await converse(session, seen, steps, resumes=True)
    async with steps.step("close"):
        await closed(url, seen)


async def over_websocket(url: str, steps: Steps, seen: Seen) -> None:
    """There is no id to ask for afterwards: the end of the connection must be the end of its calls, as another one sees it."""
    async with connected_by_websocket(url, Seen()) as other:
        await other.initialize()
        async with connected_by_websocket(url, seen) as session:
            await converse(session, seen, steps, resumes=False)
            async with steps.step("close"):
                before = int(await call(other, "cancelled_count"))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(abandoned, session)
                    await call(session, "cancelled_count")  # in order: the slow call runs now
                    tasks.cancel_scope.cancel()
        async with steps.step("close"):
            while int(await call(other, "cancelled_count")) == before:  # noqa: ASYNC110 the count can only be asked for
                await anyio.sleep(0.05)


async def abandoned(session: ClientSession) -> None:
    """This client does not tell the server when it gives up a call."""
    await session.call_tool("slow", {"seconds": 30})


async def main(url: str, mode: str = "legacy") -> None:
    steps, seen = Steps(), Seen()
    async with steps.conversation():
        await (over_websocket if mode == "websocket" else over_http)(url, steps, seen)
    steps.print()


if __name__ == "__main__":
    if os.environ.get("TRUST_ANY_CERTIFICATE"):
        # websocket_client takes no context: the one that it makes must not verify.
        ssl.create_default_context = ssl._create_unverified_context
    anyio.run(main, *sys.argv[1:])
