"""What tools, resources and prompts have in common: how they are called and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_mcp.protocol.types import to_wire

__all__ = ["present", "wire_list", "wire_object"]


def present(**fields: Any) -> dict[str, Any]:
    """The fields that are set; `meta` under its name on the wire."""
    if "meta" in fields:
        fields["_meta"] = fields.pop("meta")
    return {name: value for name, value in fields.items() if value is not None}


def wire_object(value: Any, what: str) -> dict[str, Any] | None:
    """A type of ours, its `mcp-types` twin or a mapping, as the wire has it; raises ValueError for anything else."""
    if value is None:
        return None
    wire = to_wire(value)
    if not isinstance(wire, Mapping):
        raise ValueError(f"{what}: {value!r} is no object")
    return dict(wire)


def wire_list(values: Any, what: str) -> list[dict[str, Any]] | None:
    """A sequence of such."""
    if values is None:
        return None
    return [wire_object(value, what) or {} for value in values]
