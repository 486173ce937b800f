"""What every result of a version carries besides its content."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.service import Service
from trio_mcp.protocol.envelope import SERVER_INFO_KEY
from trio_mcp.protocol.gates import implementation

__all__ = ["cache_hints", "complete", "server_info"]


def complete(call: Call, result: dict[str, Any] | Raw) -> dict[str, Any] | Raw:
    """Modern results name their type and their server (2026-07-28 basic/index); Raw ones were finished when cached."""
    if not call.modern or isinstance(result, Raw):
        return result
    finished = {"resultType": "complete", **result}
    finished["_meta"] = {**result.get("_meta", {}), SERVER_INFO_KEY: server_info(call.service, call.version)}
    return finished


def server_info(service: Service, version: str) -> dict[str, Any]:
    """Implementation, with the fields that version knows."""
    key = ("serverInfo", version)
    info: dict[str, Any] | None = service.cache.get(key)
    if info is None:
        info = service.cache[key] = implementation(service.identity, version)
    return info


def cache_hints(call: Call, *, seconds: float, shared: bool) -> dict[str, Any]:
    """`ttlMs` and `cacheScope`, which only modern results carry (2026-07-28 server/utilities/caching)."""
    if not call.modern:
        return {}
    return {"ttlMs": int(seconds * 1000), "cacheScope": "public" if shared else "private"}
