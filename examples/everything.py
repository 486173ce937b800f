"""Everything a server can do, in the fixtures the official conformance suite asks for.

`trio-mcp serve examples/everything.py`. Every handler that asks the client something is written once: on a session
(up to 2025-11-25) it waits for the answer, on 2026-07-28 it runs again with it.
"""

import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Annotated, Any

import trio
from pydantic import BaseModel, Field

from trio_mcp import Context, Elicited, MCPServer, MissingClientCapability, ProtocolError, Task, ToolError
from trio_mcp.types import (
    AudioContent,
    CreateMessageResult,
    EmbeddedResource,
    ImageContent,
    PromptMessage,
    Root,
    TextContent,
    TextResourceContents,
)

mcp = MCPServer("everything", version="1.0.0", instructions="One of each: tools, resources, prompts, questions.")

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
"""One pixel."""
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
"""A header and one sample."""


# A skill: instructions for models, with files beside them.

mcp.add_skill(Path(__file__).parent / "skills" / "release-notes")


# What a tool can return.


@mcp.tool
async def test_simple_text() -> TextContent:
    """Return a line of text."""
    return TextContent("This is a simple text response for testing.")


@mcp.tool
async def test_image_content() -> ImageContent:
    """Return an image."""
    return ImageContent(PNG, "image/png")


@mcp.tool
async def test_audio_content() -> AudioContent:
    """Return a sound."""
    return AudioContent(WAV, "audio/wav")


@mcp.tool
async def test_embedded_resource() -> EmbeddedResource:
    """Return a resource's contents."""
    text = "This is an embedded resource content."
    return EmbeddedResource(TextResourceContents("test://embedded-resource", text, "text/plain"))


@mcp.tool
async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Return text, an image and a resource together."""
    data = json.dumps({"test": "data", "value": 123}, separators=(",", ":"))
    return [
        TextContent("Multiple content types test:"),
        ImageContent(PNG, "image/png"),
        EmbeddedResource(TextResourceContents("test://mixed-content-resource", data, "application/json")),
    ]


@mcp.tool
async def test_error_handling() -> str:
    """Fail, in words the model may read."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CONTACT_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@mcp.tool(input_schema=CONTACT_SCHEMA)
async def json_schema_2020_12_tool(**contact: Any) -> TextContent:
    """Take arguments by a schema written by hand."""
    return TextContent(f"JSON Schema 2020-12 tool called with: {json.dumps(contact)}")


@mcp.tool
async def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "us-east1",  # noqa: PT028 it is a tool
) -> TextContent:
    """Take an argument that the client repeats as the header `Mcp-Param-Region`."""
    return TextContent(f"region={region}")


# What a tool can tell while it runs.


@mcp.tool
async def test_tool_with_progress(ctx: Context) -> TextContent:
    """Report progress three times."""
    await ctx.report_progress(0, 100)
    await trio.sleep(0.05)
    await ctx.report_progress(50, 100)
    await trio.sleep(0.05)
    await ctx.report_progress(100, 100)
    return TextContent("Tool with progress executed successfully")


@mcp.tool
async def test_tool_with_logging(ctx: Context) -> TextContent:
    """Log three messages."""
    await ctx.info("Tool execution started")
    await trio.sleep(0.05)
    await ctx.info("Tool processing data")
    await trio.sleep(0.05)
    await ctx.info("Tool execution completed")
    return TextContent("Tool with logging executed successfully")


@mcp.tool
async def test_logging_tool(ctx: Context) -> TextContent:
    """Log one message, which only a client that asked for it gets."""
    await ctx.info("Tool called")
    return TextContent("Logging tool executed successfully")


@mcp.tool
async def test_reconnection(ctx: Context) -> TextContent:
    """End the connection that waits for the result; the client comes back for it (2025-11-25)."""
    await ctx.close_stream()
    await trio.sleep(0.1)
    return TextContent("Reconnection test completed successfully")


cancelled = 0
CANCELLED_FILE = os.environ.get("EVERYTHING_CANCELLED")
"""A file in which the workers of a node count together: each has variables of its own."""


def count_cancelled() -> None:
    """One more."""
    global cancelled
    cancelled += 1
    if CANCELLED_FILE:
        with open(CANCELLED_FILE, "ab") as file:
            file.write(b".")


@mcp.tool
async def slow(seconds: float) -> str:
    """Sleep, and count it when the client has lost its patience."""
    try:
        await trio.sleep(seconds)
    except trio.Cancelled:
        count_cancelled()
        raise
    return f"Slept for {seconds:g} s"


@mcp.tool
def cancelled_count() -> int:
    """How many calls of `slow` were cancelled."""
    return os.path.getsize(CANCELLED_FILE) if CANCELLED_FILE else cancelled


@mcp.tool
async def test_trigger_tool_change() -> TextContent:
    """Add a tool, or take it away again."""

    async def changed_tool() -> TextContent:
        """Be there every other time."""
        return TextContent("Here I am")

    if mcp.registry.tools.get("changed_tool"):
        mcp.remove_tool("changed_tool")
    else:
        mcp.tool(changed_tool)
    return TextContent("The list of tools has changed")


@mcp.tool
async def test_trigger_prompt_change() -> TextContent:
    """Add a prompt, or take it away again."""

    async def changed_prompt() -> str:
        """Be there every other time."""
        return "Here I am"

    if mcp.registry.prompts.get("changed_prompt"):
        mcp.remove_prompt("changed_prompt")
    else:
        mcp.prompt(changed_prompt)
    return TextContent("The list of prompts has changed")


# What a tool can ask the client.


class Name(BaseModel):
    name: str


class Consent(BaseModel):
    ok: bool


class Contact(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


@mcp.tool
async def test_sampling(prompt: str, ctx: Context) -> TextContent:
    """Have the client's model answer a prompt."""
    answer = await ctx.sample(prompt, max_tokens=100, key="answer")
    return TextContent(f"LLM response: {text_of(answer)}")


@mcp.tool
async def test_elicitation(message: str, ctx: Context) -> TextContent:
    """Have the user fill in a form."""
    answer = await ctx.elicit(message, Contact, key="contact")
    content = answer.data.model_dump_json() if answer.data else "{}"
    return TextContent(f"User response: action={answer.action}, content={content}")


DEFAULTS_FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}


@mcp.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> TextContent:
    """Show a form whose fields are filled in already."""
    answer = await ctx.elicit("Please review and confirm the values", DEFAULTS_FORM, key="values")
    return completed(answer)


CHOICES_FORM = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
                {"const": "value3", "title": "Third Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ]
            },
        },
    },
}


@mcp.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> TextContent:
    """Show a form with every kind of choice."""
    answer = await ctx.elicit("Please select options from the enum fields", CHOICES_FORM, key="choices")
    return completed(answer)


@mcp.tool
async def test_missing_capability(ctx: Context) -> TextContent:
    """Insist on a client that has a model."""
    if not ctx.supports("sampling"):
        raise MissingClientCapability({"sampling": {}})
    return TextContent("The client supports sampling")


@mcp.tool
async def test_streaming_elicitation(ctx: Context) -> TextContent:
    """Report progress, then ask."""
    await ctx.report_progress(0, 1)
    answer = await ctx.elicit("Please confirm", Consent, key="confirm")
    return TextContent(f"User response: action={answer.action}")


@mcp.tool
async def test_input_required_result_elicitation(ctx: Context) -> TextContent:
    """Ask for a name."""
    return TextContent(f"Hello, {named(await ctx.elicit('What is your name?', Name, key='user_name'))}!")


@mcp.tool
async def test_input_required_result_sampling(ctx: Context) -> TextContent:
    """Ask the model."""
    answer = await ctx.sample("What is the capital of France?", max_tokens=100, key="capital_question")
    return TextContent(f"The model says: {text_of(answer)}")


@mcp.tool
async def test_input_required_result_list_roots(ctx: Context) -> TextContent:
    """Ask for the roots."""
    roots = await ctx.list_roots(key="client_roots")
    return TextContent(f"The client's roots: {', '.join(root.uri for root in roots) or 'none'}")


@mcp.tool
async def test_input_required_result_request_state(ctx: Context) -> TextContent:
    """Ask, and let the client carry the state."""
    answer = await ctx.elicit("Do you confirm?", Consent, key="confirm")
    return TextContent(f"state-ok: {answer.action}")


@mcp.tool
async def test_input_required_result_tampered_state(ctx: Context) -> TextContent:
    """Ask, and let no one change the state that the client carries: it is sealed."""
    answer = await ctx.elicit("Do you confirm?", Consent, key="confirm")
    return TextContent(f"State verified: {answer.action}")


@mcp.tool
async def test_input_required_result_multi_round(ctx: Context) -> TextContent:
    """Ask twice, the second time with the first answer in hand."""
    name = named(await ctx.elicit("Step 1: What is your name?", Name, key="step1"))
    form = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
    color = await ctx.elicit("Step 2: What is your favorite color?", form, key="step2")
    return TextContent(f"{name} likes {color.data['color'] if color.data else 'no color'}")


@mcp.tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> TextContent:
    """Ask three things at once: a nursery, and a key each."""
    name: Elicited[Name] | None = None
    greeting: CreateMessageResult | None = None
    roots: list[Root] = []

    async def ask_name() -> None:
        nonlocal name
        name = await ctx.elicit("What is your name?", Name, key="user_name")

    async def ask_greeting() -> None:
        nonlocal greeting
        greeting = await ctx.sample("Generate a greeting", max_tokens=50, key="greeting")

    async def ask_roots() -> None:
        roots.extend(await ctx.list_roots(key="client_roots"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_name)
        nursery.start_soon(ask_greeting)
        nursery.start_soon(ask_roots)
    assert name is not None
    assert greeting is not None
    return TextContent(f"{text_of(greeting)} {named(name)}, you have {len(roots)} roots")


@mcp.tool
async def test_input_required_result_capabilities(ctx: Context) -> TextContent:
    """Ask only what the client declared it can answer."""
    answered: list[str] = []

    async def elicit() -> None:
        await ctx.elicit("What is your name?", Name, key="user_name")
        answered.append("elicitation")

    async def sample() -> None:
        await ctx.sample("Generate a greeting", max_tokens=50, key="greeting")
        answered.append("sampling")

    async with trio.open_nursery() as nursery:
        if ctx.supports("elicitation"):
            nursery.start_soon(elicit)
        if ctx.supports("sampling"):
            nursery.start_soon(sample)
    return TextContent(f"Answered: {', '.join(sorted(answered)) or 'nothing, for there is nothing to ask you'}")


def completed(answer: Elicited[dict[str, Any]]) -> TextContent:
    """A form's outcome in words."""
    return TextContent(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.data or {})}")


def named(answer: Elicited[Name]) -> str:
    """The name, if the user gave one."""
    return answer.data.name if answer.data else "stranger"


def text_of(answer: CreateMessageResult) -> str:
    """What the model wrote."""
    blocks = answer.content if isinstance(answer.content, list) else [answer.content]
    return "".join(block.text for block in blocks if isinstance(block, TextContent))


# Calls that go on without their request (SEP-2663), for clients that declare tasks.


class Confirmation(BaseModel):
    confirm: bool


@mcp.tool
async def greet(name: str) -> str:
    """Greet somebody, at once."""
    return f"Hello, {name}!"


@mcp.tool(task=True)
async def slow_compute(ctx: Context, seconds: float, label: str = "") -> str:
    """Compute for some seconds; a task where that takes more than half a second."""
    for second in range(int(seconds)):
        await ctx.report_progress(second, seconds, label or None)
        await trio.sleep(1)
    await trio.sleep(seconds % 1)
    return f"Computed {label or 'something'} for {seconds:g} s"


@mcp.tool(task=Task("required"))
async def failing_job() -> str:
    """Work for a second, and fail in words the model may read."""
    await trio.sleep(1)
    raise ToolError("This job intentionally fails")


@mcp.tool(task=Task(after=0))
async def protocol_error_job() -> str:
    """Fail with an error of the protocol, which is no result."""
    raise ProtocolError(-32603, "This job intentionally ends with a protocol error")


@mcp.tool(task=Task(after=0))
async def confirm_delete(ctx: Context, filename: str) -> str:
    """Ask before a file is deleted."""
    answer = await ctx.elicit(f"Delete {filename}?", Confirmation)
    return f"Deleted {filename}" if answer.data and answer.data.confirm else f"Kept {filename}"


@mcp.tool(task=Task(after=0))
async def multi_input(ctx: Context) -> str:
    """Ask two questions at the same time."""
    answers: dict[str, str] = {}

    async def ask(key: str, message: str) -> None:
        answers[key] = (await ctx.elicit(message, Confirmation, key=key)).action

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "first", "Is the first one right?")
        nursery.start_soon(ask, "second", "Is the second one right?")
    return f"first: {answers['first']}, second: {answers['second']}"


@mcp.tool(task=Task("required", after=None))
async def test_tool_with_task(ctx: Context) -> str:
    """Ask for a name first, and only then become a task."""
    answer = await ctx.elicit("What is your name?", Name, key="user_name")
    await ctx.background()
    return f"Hello, {answer.data.name if answer.data else 'nobody'}"


# Resources.


@mcp.resource("test://static-text", mime_type="text/plain")
async def static_text() -> str:
    """Text that never changes."""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
async def static_binary() -> bytes:
    """An image."""
    return b64decode(PNG)


@mcp.resource("test://watched-resource", mime_type="text/plain")
async def watched_resource() -> str:
    """Something to subscribe to."""
    return "Watched resource content"


@mcp.resource("test://template/{id}/data", mime_type="application/json")
async def template_data(id: str) -> dict[str, Any]:
    """The data of one id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


# Prompts.


@mcp.prompt
async def test_simple_prompt() -> str:
    """Say one thing."""
    return "This is a simple prompt for testing."


@mcp.prompt
async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Say two things."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.completion("test_prompt_with_arguments", "arg1")
async def complete_arg1(value: str) -> list[str]:
    """Cities that begin with what was typed."""
    return [city for city in ("paris", "park city", "party") if city.startswith(value)]


@mcp.prompt
async def test_prompt_with_embedded_resource(resourceUri: str) -> list[PromptMessage]:
    """Show a resource and ask for work on it."""
    text = "Embedded resource content for testing."
    return [
        PromptMessage("user", EmbeddedResource(TextResourceContents(resourceUri, text, "text/plain"))),
        PromptMessage("user", "Please process the embedded resource above."),
    ]


@mcp.prompt
async def test_prompt_with_image() -> list[PromptMessage]:
    """Show an image and ask about it."""
    return [
        PromptMessage("user", ImageContent(PNG, "image/png")),
        PromptMessage("user", "Please analyze the image above."),
    ]


@mcp.prompt
async def test_input_required_result_prompt(ctx: Context) -> str:
    """Ask before saying anything."""
    form = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
    answer = await ctx.elicit("What context should the prompt use?", form, key="user_context")
    return f"Use this context: {answer.data['context'] if answer.data else 'none'}"


if __name__ == "__main__":
    mcp.run("http")
