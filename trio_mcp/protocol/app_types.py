"""What MCP Apps (SEP-1865, 2026-01-26) write into `_meta.ui`: of a tool, and of a `ui://` resource.

Both are checked when they are made: a host builds a Content Security Policy from what stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from trio_mcp.protocol.wire import WireType

__all__ = [
    "APP_MIME_TYPE",
    "UI",
    "AppCsp",
    "Permission",
    "ToolUi",
    "Visibility",
    "checked_app_uri",
    "checked_permissions",
]

UI = "io.modelcontextprotocol/ui"
"""The identifier of the extension."""

APP_MIME_TYPE = "text/html;profile=mcp-app"
"""Of every app, and what a client that shows apps names in its settings as `mimeTypes`."""

Visibility: TypeAlias = Literal["model", "app"]
"""Who may call a tool: the model, an app of the same server."""

Permission: TypeAlias = Literal["camera", "microphone", "geolocation", "clipboardWrite"]
"""What an app asks its host's browser for; it may be refused."""

_PERMISSIONS = ("camera", "microphone", "geolocation", "clipboardWrite")
_VISIBILITIES = ("model", "app")
_APP_URI = re.compile(r"ui://[\x21-\x7e]+")
_ORIGIN = re.compile(r"(?:https?|wss?)://(?:\*\.)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::(?:\d{1,5}|\*))?")
"""A scheme and a host, with `*.` for its subdomains; nothing that could end a directive of the policy."""


class ToolUi(WireType, frozen=True):
    """`_meta.ui` of a tool: the app that shows its results, and who may call it. Raises ValueError for what is neither."""

    resource_uri: str | None = None
    """The `ui://` URI of the app."""
    visibility: Sequence[Visibility] | None = None
    """`["app"]` hides the tool from models, `["model"]` from apps; both may call it unless given."""

    def __post_init__(self) -> None:
        """Check both."""
        if self.resource_uri is not None:
            checked_app_uri(self.resource_uri)
        given = self.visibility
        if given is not None and (isinstance(given, str) or not given or not set(given) <= set(_VISIBILITIES)):
            raise ValueError(f'the visibility of a tool is a list of "model" and "app", not {given!r:.80}')
        if self.resource_uri is None and given is None:
            raise ValueError('ui= of a tool names its app, as in ui="ui://sales/chart"')


class AppCsp(WireType, frozen=True):
    """The origins that an app may use beside its own HTML, as in `https://api.example.com`. Raises ValueError for what is no origin.

    Each may begin with `*.` for all subdomains. Without any the app has no network at all.
    """

    connect_domains: Sequence[str] | None = None
    """For fetch, XHR and WebSocket."""
    resource_domains: Sequence[str] | None = None
    """For scripts, styles, images, fonts and media."""
    frame_domains: Sequence[str] | None = None
    """For frames inside the app."""
    base_uri_domains: Sequence[str] | None = None
    """For `<base>`."""

    def __post_init__(self) -> None:
        """Check every origin."""
        for name in self.__struct_fields__:
            _check_origins(name, getattr(self, name))


def checked_app_uri(uri: object) -> str:
    """The URI of an app; raises ValueError for another one."""
    if not isinstance(uri, str) or not _APP_URI.fullmatch(uri) or "{" in uri:
        raise ValueError(f"an app has a URI such as ui://sales/chart, without variables, not {uri!r:.80}")
    return uri


def checked_permissions(given: Iterable[Permission]) -> dict[str, dict[str, object]]:
    """Permissions as they are sent; raises ValueError for one that MCP Apps do not have."""
    names = [given] if isinstance(given, str) else list(given)
    unknown = [name for name in names if name not in _PERMISSIONS]
    if unknown:
        raise ValueError(f"an app may ask for {', '.join(_PERMISSIONS)}, not {', '.join(map(repr, unknown))}")
    return {name: {} for name in names}


def _check_origins(name: str, given: Sequence[str] | None) -> None:
    if given is None:
        return
    if isinstance(given, str):
        raise ValueError(f"{name} of an app is a list of origins, such as [{given!r}]")
    for origin in given:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{name} of an app has origins such as https://api.example.com, not {origin!r:.80}")
