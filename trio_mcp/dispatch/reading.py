"""`resources/read`: the contents behind a URI."""

from __future__ import annotations

from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.invoke import invoke
from trio_mcp.dispatch.params import string_param
from trio_mcp.dispatch.results import cache_hints
from trio_mcp.features.resources import Resource, ResourceTemplate, contents
from trio_mcp.features.signature import Signature
from trio_mcp.protocol.errors import INTERNAL_ERROR, ProtocolError, ResourceError, ResourceNotFoundError

__all__ = ["read", "read_resource"]


async def read_resource(call: Call) -> dict[str, Any]:
    """ReadResourceResult (server/resources)."""
    result = await read(call, string_param(call.params, "uri"))
    # What a resource holds may depend on the caller, so no shared cache may keep it.
    return {**result, **cache_hints(call, seconds=0, shared=False)}


async def read(call: Call, uri: str) -> dict[str, Any]:
    """`{"contents": […]}` of a registered resource or the first template that matches."""
    found, signature, kwargs = _find(call, uri)
    try:
        value = await invoke(call, signature, kwargs)
    except ResourceError as fault:
        raise ProtocolError(INTERNAL_ERROR, str(fault)) from fault
    return contents(uri, found.mime_type, value, call.version)


def _find(call: Call, uri: str) -> tuple[Resource | ResourceTemplate, Signature, dict[str, Any]]:
    registry = call.service.registry
    resource = registry.resources.get(uri)
    if resource is not None:
        return resource, resource.signature, {}
    for template in registry.templates:
        arguments = template.arguments(uri)
        if arguments is not None:
            return template, template.signature, arguments
    raise ResourceNotFoundError(uri)
