"""`completion/complete`: suggestions for an argument that is being typed."""

from __future__ import annotations

from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.invoke import invoke
from trio_mcp.dispatch.params import object_param, string_param
from trio_mcp.features.completions import values
from trio_mcp.protocol.errors import InvalidParams

__all__ = ["complete"]


async def complete(call: Call) -> dict[str, Any]:
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
