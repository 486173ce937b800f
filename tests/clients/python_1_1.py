"""The first official Python client, `mcp` 1.1, which speaks 2024-11-05 on stdio: `python_1_1.py SERVER-COMMAND ...`.

Its types are the schema of that version, and keep what they do not know apart: nothing may be there.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from mcp import ClientSession, types
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import AnyUrl, BaseModel
from steps import Steps, text_of


@dataclass
class Heard:
    """What the server said unasked."""

    progress: list[types.ProgressNotificationParams] = field(default_factory=list)
    logged: list[types.LoggingMessageNotificationParams] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    async def listen(self, session: ClientSession) -> None:
        async for message in session.incoming_messages:
            said = getattr(message, "root", message)
            params = getattr(said, "params", None)
            self.strange += unknown(params) if isinstance(params, BaseModel) else [repr(said)]
            match said:
                case types.ProgressNotification():
                    self.progress.append(said.params)
                case types.LoggingMessageNotification():
                    self.logged.append(said.params)


def unknown(value: object, path: str = "") -> Iterator[str]:
    """Members that the types of 2024-11-05 do not have."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from unknown(item, f"{path}[{number}]")


def known(result: BaseModel) -> None:
    """Fail for a result with a member that this version does not have."""
    strange = list(unknown(result))
    assert not strange, strange


async def call(session: ClientSession, tool: str, **arguments: object) -> types.CallToolResult:
    result = await session.call_tool(tool, dict(arguments))
    known(result)
    return result


async def content(session: ClientSession) -> None:
    """Each kind of block as something that this version has a type for."""
    for tool, kinds in {
        "test_image_content": ["image"],
        "test_audio_content": ["resource"],
        "test_embedded_resource": ["resource"],
        "test_multiple_content_types": ["text", "image", "resource"],
    }.items():
        result = await call(session, tool)
        assert [block.type for block in result.content] == kinds, result.content
    assert (await call(session, "test_error_handling")).isError


async def progress(session: ClientSession, heard: Heard) -> None:
    """This release has no callback for it: the token is set by hand."""
    params = types.CallToolRequestParams(name="test_tool_with_progress", _meta={"progressToken": "p"})
    request = types.ClientRequest(types.CallToolRequest(method="tools/call", params=params))
    known(await session.send_request(request, types.CallToolResult))
    assert [(it.progressToken, it.progress) for it in heard.progress] == [("p", 0), ("p", 50), ("p", 100)], heard


async def resources(session: ClientSession) -> None:
    found = await session.list_resources()
    # The schema of the version has sizes; this release has forgotten them.
    strange = [each for each in unknown(found) if not each.endswith(".size")]
    assert not strange, strange
    assert "test://static-text" in [str(it.uri) for it in found.resources], found
    for uri, kind in {"static-text": "text", "static-binary": "blob", "template/7/data": "text"}.items():
        result = await session.read_resource(AnyUrl(f"test://{uri}"))
        known(result)
        assert getattr(result.contents[0], kind), result
    await session.subscribe_resource(AnyUrl("test://watched-resource"))
    await session.unsubscribe_resource(AnyUrl("test://watched-resource"))


async def prompts(session: ClientSession) -> None:
    found = await session.list_prompts()
    known(found)
    assert "test_prompt_with_arguments" in [it.name for it in found.prompts], found
    result = await session.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
    known(result)
    assert "arg1='a'" in text_of(message.content for message in result.messages), result


async def completion(session: ClientSession) -> None:
    prompt = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    result = await session.complete(prompt, {"name": "arg1", "value": "par"})
    known(result)
    assert result.completion.values == ["paris", "park city", "party"], result


async def logging(session: ClientSession, heard: Heard) -> None:
    await session.set_logging_level("info")
    await call(session, "test_tool_with_logging")
    assert [it.data for it in heard.logged] == [
        "Tool execution started",
        "Tool processing data",
        "Tool execution completed",
    ], heard.logged


async def converse(session: ClientSession, heard: Heard, steps: Steps) -> None:
    async with steps.step("connect"):
        opened = await session.initialize()
        # The schema of the version has instructions; this release has forgotten them.
        assert list(unknown(opened)) == [".instructions"], opened
        assert opened.protocolVersion == "2024-11-05", opened
        assert opened.capabilities.tools is not None, opened
        await session.send_ping()
    async with steps.step("list"):
        tools = await session.list_tools()
        known(tools)
        assert "add" in [tool.name for tool in tools.tools], tools
    async with steps.step("call"):
        assert text_of((await call(session, "add", a=1, b=2)).content) == "3"
    async with steps.step("content"):
        await content(session)
    async with steps.step("progress"):
        await progress(session, heard)
    async with steps.step("resources"):
        await resources(session)
    async with steps.step("prompts"):
        await prompts(session)
    async with steps.step("completion"):
        await completion(session)
    async with steps.step("logging"):
        await logging(session, heard)
    async with steps.step("unasked"):
        assert not heard.strange, heard.strange


@asynccontextmanager
async def connected(command: list[str]) -> AsyncIterator[tuple[ClientSession, Heard]]:
    server, heard = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ)), Heard()
    async with (
        stdio_client(server) as (read, write),
        ClientSession(read, write) as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(heard.listen, session)
        yield session, heard
        tasks.cancel_scope.cancel()


async def main(command: list[str]) -> None:
    steps = Steps()
    async with steps.conversation(), connected(command) as (session, heard):
        await converse(session, heard, steps)
    steps.print()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
