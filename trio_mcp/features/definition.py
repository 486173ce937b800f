"""What tools, resources and prompts have in common: the options of their registration, and the fields of their definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

from trio_mcp.features.functions import documentation, own_name
from trio_mcp.features.signature import Signature
from trio_mcp.features.task_options import Task
from trio_mcp.protocol.app_types import AppCsp, Permission, ToolUi
from trio_mcp.protocol.types import Annotations, Icon, ToolAnnotations
from trio_mcp.protocol.wire import to_wire

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Check, Requirements

__all__ = [
    "AppOptions",
    "Definition",
    "PromptOptions",
    "ResourceOptions",
    "ToolOptions",
    "check_options",
    "own_name_of",
    "shared_fields",
]


class PromptOptions(TypedDict, total=False):
    """Options of `@mcp.prompt` and `mcp.add_prompt`."""

    name: str | None
    """The function's own unless given."""
    title: str | None
    """A name for people."""
    description: str | None
    """The docstring unless given."""
    icons: Sequence[Icon | dict[str, Any]] | None
    meta: dict[str, Any] | None
    """`_meta` of the definition, sent unchanged."""
    auth: Check | Sequence[Check] | None
    """What the caller's token must have: `require_scopes(…)`, `require_roles(…)`, a function of the token, or a list of them."""
    hide: bool
    """Leave it out of the lists of callers who lack only a scope; those who fail another check do not see it anyway."""


class ToolOptions(PromptOptions, total=False):
    """Options of `@mcp.tool` and `mcp.add_tool`."""

    annotations: ToolAnnotations | dict[str, Any] | None
    """Hints for clients: read-only, destructive, idempotent, open-world."""
    input_schema: dict[str, Any] | None
    """A JSON Schema instead of the one the parameters give."""
    output_schema: dict[str, Any] | None
    """A JSON Schema instead of the one the return annotation gives."""
    structured_output: bool | None
    """True requires an output schema, False leaves it out; without it there is one where the annotation gives one."""
    ui: str | ToolUi | Mapping[str, Any] | None
    """The app that shows its results: its `ui://` URI, or a ToolUi (SEP-1865)."""
    task: Task | bool | None
    """Whether, and how, calls become tasks (SEP-2663): True, or a `Task(…)`."""
    extensions: Mapping[str, Any] | None
    """What it asks of extensions of the server: by their identifier, options as each takes them."""


class ResourceOptions(PromptOptions, total=False):
    """Options of `@mcp.resource` and `mcp.add_resource`."""

    mime_type: str | None
    size: int | None
    """In bytes; not for templates."""
    annotations: Annotations | dict[str, Any] | None
    """Hints for clients: audience, priority, last modified."""


class AppOptions(PromptOptions, total=False):
    """Options of `@mcp.app` and `mcp.add_app`."""

    csp: AppCsp | Mapping[str, Any] | None
    """The origins that it may use; none unless given."""
    permissions: Iterable[Permission] | None
    """What it asks its host's browser for."""
    domain: str | None
    """An origin of its own, in the form that a host documents."""
    prefers_border: bool | None
    """Whether the host draws a border; the host decides unless given."""


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
    "csp": ((AppCsp, Mapping), "an AppCsp"),
    "permissions": ((list, tuple, set, frozenset), "a list of permissions"),
    "domain": _TEXT,
    "prefers_border": (bool, "True or False"),
    "extensions": (Mapping, "a dict of options by the identifier of an extension"),
}
"""The type of each option, and its words in an error; `annotations` are checked by `_wire_object`."""

_INSTEAD = {
    "tags": 'meta={"tags": […]} tells clients the same',
    "enabled": "register it when it is to be offered, and remove it with mcp.remove_tool(name)",
    "exclude_args": "bind the argument: mcp.tool(functools.partial(fn, argument=value), name=…)",
    "timeout": "write `with trio.fail_after(seconds):` in the function",
    "serializer": "return the text from the function",
    "mimeType": "write mime_type=",
    "_meta": "write meta=",
    "inputSchema": "write input_schema=",
    "outputSchema": "write output_schema=",
}
"""Options of other packages, and what to write here."""


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
    if name in _INSTEAD:
        return f": {_INSTEAD[name]}"
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}=?" if near else f"; it has {', '.join(sorted(known))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A registered function, with the fields that the lists say of it; icons and annotations are as they are sent."""

    name: str
    title: str | None = None
    description: str | None = None
    annotations: dict[str, Any] | None = None
    icons: list[dict[str, Any]] | None = None
    meta: dict[str, Any] | None = None
    signature: Signature
    requirements: Requirements | None = None
    """What the token of a caller must have; None where nothing is asked. It is judged before a call begins, not here."""

    def fields(self, **own: Any) -> dict[str, Any]:
        """The definition as it is sent, with the fields that only its kind has; those that are None are left out."""
        every = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            **own,
            "annotations": self.annotations,
            "icons": self.icons,
            "_meta": self.meta,
        }
        return {name: value for name, value in every.items() if value is not None}


def shared_fields(
    fn: Callable[..., Any], signature: Signature, options: ToolOptions | ResourceOptions | PromptOptions, what: str
) -> dict[str, Any]:
    """The arguments of `Definition` from a registration; `what` names it in errors. Raises ValueError for a wrong value."""
    description = options.get("description")
    return {
        "name": own_name_of(fn, options),
        "title": options.get("title"),
        "description": documentation(fn) if description is None else description,
        "annotations": _wire_object(options.get("annotations"), f"annotations of {what}"),
        "icons": _wire_list(options.get("icons"), f"icons of {what}"),
        "meta": options.get("meta"),
        "signature": signature,
    }


def own_name_of(fn: Callable[..., Any], options: PromptOptions) -> str:
    """The name given, else the function's."""
    name = options.get("name")
    return own_name(fn) if name is None else name


def _wire_object(value: Any, what: str) -> dict[str, Any] | None:
    """A type of ours, its `mcp-types` twin or a mapping, as it is sent; raises ValueError for anything else."""
    if value is None:
        return None
    wire = to_wire(value)
    if not isinstance(wire, Mapping):
        raise ValueError(f"{what}: {value!r} is no object")
    return dict(wire)


def _wire_list(values: Any, what: str) -> list[dict[str, Any]] | None:
    if values is None:
        return None
    return [_wire_object(value, what) or {} for value in values]
