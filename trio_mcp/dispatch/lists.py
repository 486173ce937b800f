"""`*/list`: one page of a catalogue, serialised once per version of the registry."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Raw

from trio_mcp.auth.keyring import BrokenSeal
from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.params import optional_param
from trio_mcp.dispatch.results import cache_hints, complete
from trio_mcp.features.catalog import Catalog
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import encode

__all__ = ["list_prompts", "list_resources", "list_templates", "list_tools"]


async def list_tools(call: Call) -> Raw:
    """tools/list (server/tools)."""
    return _page(call, call.service.registry.tools, "tools")


async def list_resources(call: Call) -> Raw:
    """resources/list (server/resources)."""
    return _page(call, call.service.registry.resources, "resources")


async def list_templates(call: Call) -> Raw:
    """resources/templates/list (server/resources)."""
    return _page(call, call.service.registry.templates, "resourceTemplates")


async def list_prompts(call: Call) -> Raw:
    """prompts/list (server/prompts)."""
    return _page(call, call.service.registry.prompts, "prompts")


def _page(call: Call, catalog: Catalog[Any], member: str) -> Raw:
    offset = _offset(call)
    key = (member, catalog.version, call.version, offset)
    page: Raw | None = call.service.cache.get(key)
    if page is None:
        page = call.service.cache[key] = _serialise(call, catalog, member, offset)
    return page


def _serialise(call: Call, catalog: Catalog[Any], member: str, offset: int) -> Raw:
    options = call.service.options
    items, following = catalog.page(call.version, offset, options.page_size)
    result: dict[str, Any] = {
        member: items,
        **cache_hints(call, seconds=options.cache_ttl, shared=not options.private_lists),
    }
    if following is not None:
        result["nextCursor"] = call.service.keyring.seal(str(following).encode(), _bound_to(call))
    return Raw(encode(complete(call, result)))


def _offset(call: Call) -> int:
    # Some clients send an empty cursor for the first page.
    cursor = optional_param(call.params, "cursor", "")
    if cursor == "":
        return 0
    if not isinstance(cursor, str):
        raise InvalidParams("params.cursor must be a string")
    try:
        # Of any age: the page that carries a cursor is cached for as long as the registry stays as it is.
        return int(call.service.keyring.open(cursor, _bound_to(call), max_age=math.inf))
    except BrokenSeal as fault:
        raise InvalidParams(f"params.cursor is not one this list gave out: {fault}. Start again without it") from None


def _bound_to(call: Call) -> bytes:
    return b"cursor " + call.method.encode()
