"""`tools/call`: arguments in, content out, and a tool's failure as a result the model can read."""

from __future__ import annotations

import logging
from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.crashes import crashed
from trio_mcp.dispatch.invoke import invoke
from trio_mcp.dispatch.params import object_param, string_param
from trio_mcp.dispatch.user_code import user_code
from trio_mcp.features.tools import Tool, error_result
from trio_mcp.protocol.errors import (
    ClientCallError,
    InvalidArguments,
    InvalidParams,
    LocalProtocolError,
    MissingClientCapability,
    ProtocolError,
    SlowReader,
    ToolError,
)
from trio_mcp.protocol.versions import V2025_11_25

__all__ = ["call_tool"]

logger = logging.getLogger("trio_mcp.tools")


async def call_tool(call: Call) -> dict[str, Any]:
    """CallToolResult (server/tools). An unknown tool is a protocol error, a failing one is not."""
    name = string_param(call.params, "name")
    tool = call.service.registry.tools.get(name)
    if tool is None:
        raise InvalidParams(f"Unknown tool: {name[:128]}")
    arguments = object_param(call.params, "arguments")
    try:
        return await _run(call, tool, arguments)
    except InvalidArguments as fault:
        # "Input validation errors" became tool execution errors with SEP-1303, so that models can correct themselves.
        if call.version < V2025_11_25:
            raise
        return error_result(str(fault))


async def _run(call: Call, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    kwargs = tool.bind(arguments)
    try:
        with user_code():
            return tool.result(await invoke(call, tool.signature, kwargs), call.version)
    except SlowReader:
        raise
    except Exception as fault:  # a tool's failure is its result, told without its details
        return _failure(call, tool, fault)


def _failure(call: Call, tool: Tool, fault: Exception) -> dict[str, Any]:
    words = _spoken(call, fault)
    if words is None:
        words = crashed(logger, "tool failed", call, fault, f"Error executing tool {tool.name}", tool=tool.name)
    return error_result(words)


def _spoken(call: Call, fault: Exception) -> str | None:
    """What the fault itself says to the client, or None for a crash; a fault that is the protocol's goes on up."""
    match fault:
        case ExceptionGroup():
            texts = [_spoken(call, leaf) for leaf in fault.exceptions if isinstance(leaf, Exception)]
            return "\n".join(text for text in texts if text) if all(texts) else None
        case MissingClientCapability() if not call.modern:
            return str(fault)
        case ToolError() | ClientCallError():
            return str(fault)
        case LocalProtocolError():
            return None
        case ProtocolError() | SlowReader():
            raise fault
        case _:
            return None
