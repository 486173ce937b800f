"""What a registration may say beside its function: each option is written here once, and checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypedDict

from trio_mcp.features.callables import documentation, own_name
from trio_mcp.protocol.types import Annotations, Icon, ToolAnnotations

__all__ = ["PromptOptions", "ResourceOptions", "ToolOptions", "check_options", "description_of", "own_name_of"]


class PromptOptions(TypedDict, total=False):
    """Options of `@mcp.prompt` and `mcp.add_prompt`."""

    name: str | None
    """The function's own without it."""
    title: str | None
    """What people see."""
    description: str | None
    """The docstring without it."""
    icons: Sequence[Icon | dict[str, Any]] | None
    meta: dict[str, Any] | None
    """`_meta` of the definition, verbatim."""


class ToolOptions(PromptOptions, total=False):
    """Options of `@mcp.tool` and `mcp.add_tool`."""

    annotations: ToolAnnotations | dict[str, Any] | None
    """Hints for clients: reads only, destroys, may be repeated."""
    input_schema: dict[str, Any] | None
    """A JSON Schema instead of the one the parameters give."""
    output_schema: dict[str, Any] | None
    """A JSON Schema instead of the one the return annotation gives."""
    structured_output: bool | None
    """True insists on an output schema, False does without; None has one where the annotation gives one."""


class ResourceOptions(PromptOptions, total=False):
    """Options of `@mcp.resource` and `mcp.add_resource`."""

    mime_type: str | None
    size: int | None
    """In bytes; not for templates."""
    annotations: Annotations | dict[str, Any] | None
    """Hints for clients: audience, priority, last modified."""


_TEXT = (str, "text")
_OBJECT = (Mapping, "an object (dict)")
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "name": _TEXT,
    "title": _TEXT,
    "description": _TEXT,
    "mime_type": _TEXT,
    "size": (int, "a number of bytes"),
    "icons": ((list, tuple), "a list of Icon"),
    "meta": _OBJECT,
    "input_schema": _OBJECT,
    "output_schema": _OBJECT,
    "structured_output": (bool, "True or False"),
}
"""What an option must be; `annotations` are checked where they are read."""

_ELSEWHERE = {
    "tags": 'meta={"tags": […]} tells clients the same',
    "enabled": "register it when it is to be offered, and take it away with mcp.remove_tool(name)",
    "exclude_args": "bind the argument: mcp.tool(functools.partial(fn, argument=value), name=…)",
    "timeout": "write `with trio.fail_after(seconds):` in the function",
    "serializer": "return the text from the function",
    "mimeType": "write mime_type=",
    "_meta": "write meta=",
    "inputSchema": "write input_schema=",
    "outputSchema": "write output_schema=",
}
"""Options of other packages, and what stands for them here."""


def check_options(what: str, options: Mapping[str, Any], kind: type) -> None:
    """Raise TypeError for an option that `kind`, one of the classes here, does not have, or of the wrong type."""
    known = kind.__annotations__
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"{what} has no option {name}={_instead(name, known)}")
        expected, words = _KINDS.get(name, (object, ""))
        if value is not None and not isinstance(value, expected):
            raise TypeError(f"{name}= of {what} is {words}, not {value!r:.80}")


def _instead(name: str, known: Mapping[str, Any]) -> str:
    if name in _ELSEWHERE:
        return f": {_ELSEWHERE[name]}"
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}=?" if near else f"; it has {', '.join(sorted(known))}"


def own_name_of(fn: Callable[..., Any], options: PromptOptions) -> str:
    """The name given, else the function's."""
    name = options.get("name")
    return own_name(fn) if name is None else name


def description_of(fn: Callable[..., Any], options: PromptOptions) -> str | None:
    """The description given, else the docstring."""
    description = options.get("description")
    return documentation(fn) if description is None else description
