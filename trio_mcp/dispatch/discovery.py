"""What the server says of itself: `initialize` on legacy, `server/discover` on modern."""

from __future__ import annotations

from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.results import cache_hints, server_info
from trio_mcp.dispatch.service import Service
from trio_mcp.protocol import gates
from trio_mcp.protocol.versions import SERVED_VERSIONS

__all__ = ["discover", "initialize_result"]


def initialize_result(service: Service, version: str) -> dict[str, Any]:
    """InitializeResult for the negotiated version (basic/lifecycle)."""
    result = {
        "protocolVersion": version,
        "capabilities": gates.capabilities(service.capabilities(), version),
        "serverInfo": server_info(service, version),
    }
    return _with_instructions(service, result)


async def discover(call: Call) -> dict[str, Any]:
    """DiscoverResult; who the server is goes into `_meta` with every result (2026-07-28 server/discover)."""
    service = call.service
    result = {
        "supportedVersions": list(SERVED_VERSIONS),
        "capabilities": service.capabilities(),
        **cache_hints(call, seconds=service.options.cache_ttl, shared=not service.options.private_lists),
    }
    return _with_instructions(service, result)


def _with_instructions(service: Service, result: dict[str, Any]) -> dict[str, Any]:
    if service.instructions is not None:
        result["instructions"] = service.instructions
    return result
