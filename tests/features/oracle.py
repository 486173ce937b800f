"""The official types as judge of what we send."""

from typing import Any

from mcp_types.methods import serialize_server_result

from trio_mcp.protocol.versions import V2026_07_28

__all__ = ["accept"]

_MODERN: dict[str, Any] = {"resultType": "complete"}
_CACHEABLE = {"tools/list", "resources/list", "resources/templates/list", "prompts/list", "resources/read"}


def accept(method: str, version: str, result: dict[str, Any]) -> None:
    """Fail unless the official types take a result, and keep every field of it."""
    if version >= V2026_07_28:
        result = {**result, **_MODERN}
        if method in _CACHEABLE:
            result |= {"ttlMs": 0, "cacheScope": "public"}
    assert serialize_server_result(method, version, result) == result
