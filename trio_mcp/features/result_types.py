"""What a return annotation promises where the value returned is a whole result."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from trio_mcp.protocol.types import class_wire_name

__all__ = ["structured_type"]


def structured_type(hint: Any) -> Any:
    """The type of `structuredContent`: `Model` for `Annotated[CallToolResult, Model]`, as the official SDK has it; else `hint`."""
    if get_origin(hint) is not Annotated:
        return hint
    result, *said = get_args(hint)
    if not (isinstance(result, type) and class_wire_name(result) == "CallToolResult"):
        return hint
    return next((each for each in said if isinstance(each, type) or get_origin(each) is not None), result)
