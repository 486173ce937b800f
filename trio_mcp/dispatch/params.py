"""Reading a request's params: each getter returns what the schema promises or raises InvalidParams."""

from __future__ import annotations

from typing import Any

from trio_mcp.protocol.errors import InvalidParams

__all__ = ["MAX_KEPT_URI", "object_param", "optional_param", "string_param"]

MAX_KEPT_URI = 8 * 1024
"""Characters of a URI that outlives its request, as a subscription does: what is kept is bounded."""


def string_param(params: dict[str, Any], name: str) -> str:
    """A required string."""
    value = params.get(name)
    if not isinstance(value, str):
        raise InvalidParams(f"params.{name} must be a string")
    return value


def optional_param(params: dict[str, Any], name: str, default: Any) -> Any:
    """What stands there, or `default` when it is left out or null: many clients write null for "not given"."""
    value = params.get(name)
    return default if value is None else value


def object_param(params: dict[str, Any], name: str) -> dict[str, Any]:
    """An optional object, {} when it is left out or null."""
    value = optional_param(params, name, {})
    if not isinstance(value, dict):
        raise InvalidParams(f"params.{name} must be an object")
    return value
