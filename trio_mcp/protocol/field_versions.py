"""Which fields each protocol version knows, and objects of the wire reduced to them.

Source: the schemas of 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28. A field was in 2024-11-05 unless the
table says otherwise.
"""

from __future__ import annotations

from typing import Any

from trio_mcp.protocol.types import Implementation
from trio_mcp.protocol.versions import V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28
from trio_mcp.protocol.wire import to_wire

__all__ = [
    "SINCE",
    "STRUCTURED_OBJECTS_SINCE",
    "capabilities",
    "content_block",
    "has_structured_content",
    "implementation",
    "own_result",
    "progress",
    "prompt",
    "resource",
    "resource_contents",
    "resource_template",
    "tool",
]

Wire = dict[str, Any]

_NAMED = {"title": V2025_06_18, "_meta": V2025_06_18, "icons": V2025_11_25}

SINCE: dict[str, dict[str, str]] = {
    "tool": {**_NAMED, "annotations": V2025_03_26, "outputSchema": V2025_06_18},
    "schema": {"$schema": V2025_11_25},
    "resource": _NAMED,
    "prompt": _NAMED,
    "prompt argument": {"title": V2025_06_18},
    "content": _NAMED,
    "contents": {"_meta": V2025_06_18},
    "annotations": {"lastModified": V2025_06_18},
    "progress": {"message": V2025_03_26},
    "capabilities": {"completions": V2025_03_26},
    "implementation": {
        "title": V2025_06_18,
        "description": V2025_11_25,
        "icons": V2025_11_25,
        "websiteUrl": V2025_11_25,
    },
}
"""Object → field → the first version that knows it. Fields that are not listed are known to all versions."""

STRUCTURED_OBJECTS_SINCE = V2025_06_18
"""From this version on the result of a tool may have an object as `structuredContent`."""

_COMPLETE = V2025_11_25
"""From this version on nothing in the table is left out."""


def _known(kind: str, value: Wire, version: str) -> Wire:
    since = SINCE[kind]
    return {name: item for name, item in value.items() if since.get(name, "") <= version}


def tool(value: Wire, version: str) -> Wire:
    """A Tool as `version` knows it. An output schema of anything but an object is known from 2026-07-28 on."""
    if version < V2026_07_28 and value.get("outputSchema", {}).get("type") != "object":
        value = {name: item for name, item in value.items() if name != "outputSchema"}
    if version >= _COMPLETE:
        return value
    value = _known("tool", value, version)
    for name in value.keys() & {"inputSchema", "outputSchema"}:
        value[name] = _known("schema", value[name], version)
    return value


def resource(value: Wire, version: str) -> Wire:
    """A Resource as `version` knows it."""
    return value if version >= _COMPLETE else _annotated(_known("resource", value, version), version)


resource_template = resource
"""A ResourceTemplate has the same fields since the same versions."""


def prompt(value: Wire, version: str) -> Wire:
    """A Prompt as `version` knows it."""
    if version >= _COMPLETE:
        return value
    value = _known("prompt", value, version)
    if "arguments" in value:
        value["arguments"] = [_known("prompt argument", argument, version) for argument in value["arguments"]]
    return value


def progress(value: Wire, version: str) -> Wire:
    """The params of a progress notification as `version` knows them."""
    return value if version >= _COMPLETE else _known("progress", value, version)


def capabilities(value: Wire, version: str) -> Wire:
    """ServerCapabilities as `version` knows them. A method may be older than its capability."""
    return value if version >= _COMPLETE else _known("capabilities", value, version)


def implementation(value: Implementation, version: str) -> Wire:
    """A `serverInfo` as `version` knows it."""
    return _known("implementation", to_wire(value), version)


def content_block(value: Wire, version: str) -> Wire:
    """A content block as `version` knows it; one of a type that it does not know becomes another.

    A link to a resource becomes text before 2025-06-18, audio an embedded resource before 2025-03-26.
    """
    if version >= _COMPLETE:
        return value
    if value.get("type") == "resource_link" and version < V2025_06_18:
        return {"type": "text", "text": f"{value.get('title') or value['name']}: {value['uri']}"}
    if value.get("type") == "audio" and version < V2025_03_26:
        audio = {"uri": "audio:content", "mimeType": value["mimeType"], "blob": value["data"]}
        value = {**{name: item for name, item in value.items() if name not in {"data", "mimeType"}}, "type": "resource"}
        value["resource"] = audio
    value = _annotated(_known("content", value, version), version)
    if value.get("type") == "resource":
        value["resource"] = resource_contents(value["resource"], version)
    return value


def resource_contents(value: Wire, version: str) -> Wire:
    """Text or blob contents as `version` knows them."""
    return value if version >= _COMPLETE else _known("contents", value, version)


def own_result(value: Wire) -> Wire:
    """A whole result made by a handler, without the members that the server sets. Objects of the official packages have them."""
    return {name: item for name, item in value.items() if name not in {"resultType", "ttlMs", "cacheScope"}}


def has_structured_content(value: Any, version: str) -> bool:
    """Whether a result may carry `value` as `structuredContent`: objects from 2025-06-18, anything from 2026-07-28."""
    return version >= V2026_07_28 or (version >= STRUCTURED_OBJECTS_SINCE and isinstance(value, dict))


def _annotated(value: Wire, version: str) -> Wire:
    if "annotations" in value:
        value["annotations"] = _known("annotations", value["annotations"], version)
    return value
