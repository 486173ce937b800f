"""MCP Apps (SEP-1865): a tool's `ui=`, and the `ui://` resource of an app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Unpack, cast

from trio_mcp.features.definition import AppOptions, check_options
from trio_mcp.features.resources import Resource
from trio_mcp.protocol.app_types import APP_MIME_TYPE, AppCsp, ToolUi, checked_app_uri, checked_permissions
from trio_mcp.protocol.wire import to_wire

__all__ = ["app_resource", "tool_ui", "with_ui"]


def tool_ui(given: Any) -> dict[str, Any]:
    """`_meta.ui` of a tool from what its `ui=` is: a URI, a ToolUi, or the object itself. Raises TypeError, ValueError."""
    match given:
        case str():
            given = ToolUi(resource_uri=given)
        case Mapping():
            given = ToolUi(**given)
        case ToolUi():
            pass
        case _:
            raise TypeError(f"ui= of a tool is the URI of its app, or a ToolUi, not {given!r:.80}")
    wire: dict[str, Any] = to_wire(given)
    return wire


def with_ui(meta: Mapping[str, Any] | None, ui: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `_meta` of a definition with its member `ui`; raises ValueError where it has one already."""
    if meta is not None and "ui" in meta:
        raise ValueError("meta= has a member ui, which says what the options for apps say: leave it out")
    together = {**(meta or {}), **({"ui": dict(ui)} if ui else {})}
    return together or None


def app_resource(fn: Callable[..., Any], uri: str, **options: Unpack[AppOptions]) -> Resource:
    """The resource of an app, from the function that gives its HTML.

    What the app needs of its host stands on the definition, where hosts see it before they read, and on the contents, which count.
    Raises ValueError for a URI, an origin or a permission that apps do not have, TypeError as `Resource.of` does.
    """
    check_options("an app", options, AppOptions)
    given: dict[str, Any] = dict(options)
    ui = _app_ui(*(given.pop(name, None) for name in ("csp", "permissions", "domain", "prefers_border")))
    meta = with_ui(given.pop("meta", None), ui)
    resource = Resource.of(fn, checked_app_uri(uri), **given, meta=meta, mime_type=APP_MIME_TYPE)
    return replace(resource, contents_meta={"ui": ui} if ui else {})


def _app_ui(csp: Any, permissions: Any, domain: str | None, prefers_border: bool | None) -> dict[str, Any]:
    ui = {
        "csp": None if csp is None else to_wire(csp if isinstance(csp, AppCsp) else AppCsp(**csp)),
        "permissions": None if permissions is None else checked_permissions(cast("Iterable[Any]", permissions)),
        "domain": domain,
        "prefersBorder": prefers_border,
    }
    return {name: value for name, value in ui.items() if value is not None}
