"""What the server says of itself: the results of `initialize`, `server/discover` and the lists, and what every result carries."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Raw

from trio_mcp.auth.keyring import BrokenSeal
from trio_mcp.dispatch.call import Call, Service
from trio_mcp.features.definition import Definition
from trio_mcp.features.registry import Catalog
from trio_mcp.protocol import field_versions
from trio_mcp.protocol.envelope import SERVER_INFO_KEY
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import encode, optional_param
from trio_mcp.protocol.versions import SERVED_VERSIONS

__all__ = [
    "cache_hints",
    "complete",
    "discover",
    "initialize_result",
    "list_page",
    "list_prompts",
    "list_resources",
    "list_templates",
    "list_tools",
    "server_info",
]


def initialize_result(service: Service, version: str) -> dict[str, Any]:
    """InitializeResult for `version`, the negotiated one (basic/lifecycle)."""
    result = {
        "protocolVersion": version,
        "capabilities": field_versions.capabilities(service.capabilities(version), version),
        "serverInfo": server_info(service, version),
    }
    return _with_instructions(service, result)


async def discover(call: Call) -> dict[str, Any]:
    """DiscoverResult (2026-07-28 server/discover). The name of the server is in `_meta`, as in every result."""
    service = call.service
    result = {
        "supportedVersions": list(SERVED_VERSIONS),
        "capabilities": service.capabilities(call.version),
        **cache_hints(call, seconds=service.options.cache_ttl, shared=not service.options.private_lists),
    }
    return _with_instructions(service, result)


def _with_instructions(service: Service, result: dict[str, Any]) -> dict[str, Any]:
    if service.instructions is not None:
        result["instructions"] = service.instructions
    return result


async def list_tools(call: Call) -> Raw:
    """tools/list (server/tools)."""
    return list_page(call, call.service.registry.tools, "tools")


async def list_resources(call: Call) -> Raw:
    """resources/list (server/resources)."""
    return list_page(call, call.service.registry.resources, "resources")


async def list_templates(call: Call) -> Raw:
    """resources/templates/list (server/resources)."""
    return list_page(call, call.service.registry.templates, "resourceTemplates")


async def list_prompts(call: Call) -> Raw:
    """prompts/list (server/prompts)."""
    return list_page(call, call.service.registry.prompts, "prompts")


def list_page(call: Call, catalog: Catalog[Any], member: str) -> Raw:
    """One page, serialised once for each state of the catalog, protocol version and offset."""
    offset = _offset(call)
    if call.token is not None and any(map(_may_be_hidden, catalog)):
        return _serialise(call, catalog, member, offset, shown=partial(_is_shown, call))
    key = (member, catalog.version, call.version, offset)
    page: Raw | None = call.service.cache.get(key)
    if page is None:
        page = call.service.cache[key] = _serialise(call, catalog, member, offset)
    return page


def _may_be_hidden(component: Definition) -> bool:
    """Whether lists show it to some callers and not to others."""
    asked = component.requirements
    return asked is not None and (asked.hide or bool(asked.checks))


def _is_shown(call: Call, component: Definition) -> bool:
    asked, auth = component.requirements, call.service.auth
    return asked is None or auth is None or asked.listed_for(call.token, auth.hierarchy)


def _serialise(
    call: Call, catalog: Catalog[Any], member: str, offset: int, shown: Callable[[Definition], bool] | None = None
) -> Raw:
    options = call.service.options
    items, following = catalog.page(call.version, offset, options.page_size, shown)
    shared = not options.private_lists and shown is None
    result: dict[str, Any] = {member: items, **cache_hints(call, seconds=options.cache_ttl, shared=shared)}
    if following is not None:
        result["nextCursor"] = call.service.keyring.seal(str(following).encode(), _bound_to(call))
    return Raw(encode(complete(call, result) if call.modern else result))


def _offset(call: Call) -> int:
    # Some clients send an empty cursor for the first page.
    cursor = optional_param(call.params, "cursor", "")
    if cursor == "":
        return 0
    if not isinstance(cursor, str):
        raise InvalidParams("params.cursor must be a string")
    try:
        # A cursor does not expire: the page that carries it is cached for as long as the registry stays the same.
        return int(call.service.keyring.open(cursor, _bound_to(call), max_age=math.inf))
    except BrokenSeal as fault:
        raise InvalidParams(f"params.cursor is not one this list gave out: {fault}. Start again without it") from None


def _bound_to(call: Call) -> bytes:
    return b"cursor " + call.method.encode()


def complete(call: Call, result: dict[str, Any] | Raw) -> dict[str, Any] | Raw:
    """A result of 2026-07-28 with its `resultType` and the name of its server (basic/index).

    A Raw one has them: it is a page of a list, serialised with both.
    """
    if isinstance(result, Raw):
        return result
    meta, server = result.get("_meta"), _server_meta(call.service, call.version)
    return {"resultType": "complete", **result, "_meta": {**meta, **server} if meta else server}


def _server_meta(service: Service, version: str) -> dict[str, Any]:
    """The `_meta` of a result that has no other; shared."""
    key = ("_meta", version)
    meta: dict[str, Any] | None = service.cache.get(key)
    if meta is None:
        meta = service.cache[key] = {SERVER_INFO_KEY: server_info(service, version)}
    return meta


def server_info(service: Service, version: str) -> dict[str, Any]:
    """Who this server is: an Implementation, with the fields that `version` knows."""
    key = ("serverInfo", version)
    info: dict[str, Any] | None = service.cache.get(key)
    if info is None:
        info = service.cache[key] = field_versions.implementation(service.identity, version)
    return info


def cache_hints(call: Call, *, seconds: float, shared: bool) -> dict[str, Any]:
    """`ttlMs` and `cacheScope` of a modern result, {} of others (2026-07-28 server/utilities/caching).

    `seconds`: for how long it may be cached. `shared`: whether a cache may give it to other callers.
    """
    if not call.modern:
        return {}
    return {"ttlMs": int(seconds * 1000), "cacheScope": "public" if shared else "private"}
