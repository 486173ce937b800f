"""The methods that run a user's function: `tools/call`, `resources/read`, `prompts/get`, `completion/complete`.

Each looks its function up in the registry, binds the client's arguments, runs it and shapes what it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.discovery import cache_hints
from trio_mcp.dispatch.extension_port import Answer
from trio_mcp.dispatch.user_code import crash_message, invoke, user_code
from trio_mcp.features.completions import values
from trio_mcp.features.resources import Resource, ResourceTemplate, contents
from trio_mcp.features.signature import Signature
from trio_mcp.features.tools import Tool, error_result
from trio_mcp.protocol.errors import (
    INTERNAL_ERROR,
    ClaimMissing,
    ClientCallError,
    InvalidArguments,
    InvalidParams,
    LocalProtocolError,
    MissingClientCapability,
    PromptError,
    ProtocolError,
    ResourceError,
    ResourceNotFoundError,
    SlowReader,
    ToolError,
)
from trio_mcp.protocol.jsonrpc import object_param, string_param
from trio_mcp.protocol.versions import V2025_11_25

__all__ = ["call_tool", "complete_argument", "get_prompt", "read", "read_resource", "run_tool"]

logger: logging.Logger = logging.getLogger("trio_mcp.tools")


async def call_tool(call: Call) -> Answer:
    """CallToolResult (server/tools). An unknown tool is a protocol error; a tool that fails is a result with `isError`."""
    tool = call.tool
    if tool is None:
        raise InvalidParams(f"Unknown tool: {string_param(call.params, 'name')[:128]}")
    if tool.extensions:
        return await _extended(call, tool)
    return await run_tool(call, tool)


async def run_tool(call: Call, tool: Tool) -> dict[str, Any]:
    """The result of a tool, without what extensions make of its calls. Raises as `call_tool` does."""
    try:
        return await _run(call, tool, object_param(call.params, "arguments"))
    except InvalidArguments as fault:
        # "Input validation errors" became tool execution errors with SEP-1303, so that models can correct themselves.
        if call.version < V2025_11_25:
            raise
        return error_result(str(fault))


async def _extended(call: Call, tool: Tool) -> Answer:
    """The result of a tool whose calls pass through extensions, in the order in which its options name them."""
    object_param(call.params, "arguments")
    proceed: Callable[[Call], Awaitable[Answer]] = partial(run_tool, tool=tool)
    declared = call.service.declared_extensions(call.version)
    for identifier, options in reversed(list(tool.extensions.items())):
        if identifier in declared:
            proceed = partial(call.service.extensions[identifier].call_tool, options=options, proceed=proceed)
    try:
        with user_code():
            return await proceed(call)
    except (SlowReader, InvalidArguments):
        raise
    except Exception as fault:  # the boundary of extensions, as that of tools
        return _tool_failure(call, tool, fault)


async def _run(call: Call, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    kwargs = tool.bind(arguments)
    try:
        with user_code():
            return tool.result(await invoke(call, tool.signature, kwargs), call.version)
    except SlowReader:
        raise
    except Exception as fault:  # the boundary of tools: a failure is a result, without its details
        return _tool_failure(call, tool, fault)


def _tool_failure(call: Call, tool: Tool, fault: Exception) -> dict[str, Any]:
    message = _own_message(call, fault)
    if message is None:
        message = crash_message(logger, "tool failed", call, fault, f"Error executing tool {tool.name}", tool=tool.name)
    return error_result(message)


def _own_message(call: Call, fault: Exception) -> str | None:
    """What an exception of a tool tells the client; None for a crash. Raises it again if it becomes a JSON-RPC error."""
    match fault:
        case ExceptionGroup():
            texts = [_own_message(call, leaf) for leaf in fault.exceptions if isinstance(leaf, Exception)]
            return "\n".join(text for text in texts if text) if all(texts) else None
        case MissingClientCapability() if not call.modern:
            return str(fault)
        case ToolError() | ClientCallError() | ClaimMissing():
            return str(fault)
        case LocalProtocolError():
            return None
        case ProtocolError() | SlowReader():
            raise fault
        case _:
            return None


async def read_resource(call: Call) -> dict[str, Any]:
    """ReadResourceResult (server/resources)."""
    result = await read(call, string_param(call.params, "uri"))
    # Contents may depend on the caller, so no shared cache may keep them.
    return {**result, **cache_hints(call, seconds=0, shared=False)}


async def read(call: Call, uri: str) -> dict[str, Any]:
    """`{"contents": […]}` of the resource at `uri`, or of the first template that matches.

    Raises ResourceNotFoundError, ProtocolError for a ResourceError, and what the function raises.
    """
    found, signature, kwargs = _find_resource(call, uri)
    try:
        # A handler may read resources, too. Whatever this one's function raises, that handler gets an `Exception`.
        with user_code():
            value = await invoke(call, signature, kwargs)
    except ResourceError as fault:
        raise ProtocolError(INTERNAL_ERROR, str(fault)) from fault
    meta = found.contents_meta if isinstance(found, Resource) else None
    return contents(uri, found.mime_type, value, call.version, meta)


def _find_resource(call: Call, uri: str) -> tuple[Resource | ResourceTemplate, Signature, dict[str, Any]]:
    registry = call.service.registry
    resource = registry.resources.get(uri)
    if resource is not None:
        return resource, resource.signature, {}
    for template in registry.templates:
        arguments = template.arguments(uri)
        if arguments is not None:
            return template, template.signature, arguments
    raise ResourceNotFoundError(uri)


async def get_prompt(call: Call) -> dict[str, Any]:
    """GetPromptResult (server/prompts). Raises InvalidParams for an unknown prompt, ProtocolError for a PromptError."""
    name = string_param(call.params, "name")
    prompt = call.service.registry.prompts.get(name)
    if prompt is None:
        raise InvalidParams(f"Unknown prompt: {name[:128]}")
    kwargs = prompt.bind(object_param(call.params, "arguments"))
    try:
        return prompt.result(await invoke(call, prompt.signature, kwargs), call.version)
    except PromptError as fault:
        raise ProtocolError(INTERNAL_ERROR, str(fault)) from fault


async def complete_argument(call: Call) -> dict[str, Any]:
    """CompleteResult (server/utilities/completion); nothing to suggest is an empty list, not an error."""
    reference = object_param(call.params, "ref")
    argument = object_param(call.params, "argument")
    name, typed = string_param(argument, "name"), string_param(argument, "value")
    context = object_param(object_param(call.params, "context"), "arguments")
    _require_known(call, reference)
    completion = call.service.registry.completions.find(reference, name)
    if completion is None:
        return values(None)
    kwargs = completion.bind(typed, context)
    return values(await invoke(call, completion.signature, kwargs))


def _require_known(call: Call, reference: dict[str, Any]) -> None:
    registry = call.service.registry
    match reference.get("type"):
        case "ref/prompt":
            name = string_param(reference, "name")
            if registry.prompts.get(name) is None:
                raise InvalidParams(f"Unknown prompt: {name[:128]}")
        case "ref/resource":
            uri = string_param(reference, "uri")
            if registry.templates.get(uri) is None and registry.resources.get(uri) is None:
                raise InvalidParams(f"Unknown resource template: {uri[:256]}")
        case _:
            raise InvalidParams("params.ref.type must be ref/prompt or ref/resource")
