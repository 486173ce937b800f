"""`prompts/get`: a prompt filled in with the client's arguments."""

from __future__ import annotations

from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.invoke import invoke
from trio_mcp.dispatch.params import object_param, string_param
from trio_mcp.protocol.errors import INTERNAL_ERROR, InvalidParams, PromptError, ProtocolError

__all__ = ["get_prompt"]


async def get_prompt(call: Call) -> dict[str, Any]:
    """GetPromptResult (server/prompts)."""
    name = string_param(call.params, "name")
    prompt = call.service.registry.prompts.get(name)
    if prompt is None:
        raise InvalidParams(f"Unknown prompt: {name[:128]}")
    kwargs = prompt.bind(object_param(call.params, "arguments"))
    try:
        return prompt.result(await invoke(call, prompt.signature, kwargs), call.version)
    except PromptError as fault:
        raise ProtocolError(INTERNAL_ERROR, str(fault)) from fault
