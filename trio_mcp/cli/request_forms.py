"""Params and headers of a request in each era: modern (2026-07-28) ones carry everything, legacy ones name their session."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trio_mcp.observability.build import version
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY, CLIENT_INFO_KEY, LOG_LEVEL_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.versions import V2026_07_28

__all__ = ["CLIENT_INFO", "Legacy", "Modern", "RequestForm"]

CLIENT_INFO = {"name": "trio-mcp", "version": version()}

_PLAIN = re.compile(r"(?!=\?base64\?)[!-~]([ -~]*[!-~])?")
"""A value that a header carries unchanged: visible ASCII, no white space at the ends, nothing that begins like base64."""


class RequestForm(Protocol):
    """How requests are written in one era."""

    version: str

    def params(self, params: dict[str, Any]) -> dict[str, Any]:
        """`params` as this era sends them."""

    def headers(self, method: str, params: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str]]:
        """The headers of a request; `schema` is the input schema of the tool it calls, or {}."""


class Modern:
    """2026-07-28: each request has version, capabilities and identity in `_meta`, and method and name in headers for proxies."""

    version = V2026_07_28

    def __init__(self, capabilities: Mapping[str, Any] | None = None) -> None:
        """`capabilities` (ClientCapabilities) are declared in each request."""
        self._capabilities = dict(capabilities or {})

    def params(self, params: dict[str, Any]) -> dict[str, Any]:
        envelope = {
            PROTOCOL_VERSION_KEY: self.version,
            CLIENT_CAPABILITIES_KEY: self._capabilities,
            CLIENT_INFO_KEY: CLIENT_INFO,
            LOG_LEVEL_KEY: "info",
        }
        return {**params, "_meta": {**params.get("_meta", {}), **envelope}}

    def headers(self, method: str, params: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str]]:
        headers = [("MCP-Protocol-Version", self.version), ("Mcp-Method", method)]
        name = params.get(_named_by(method))
        if name is not None:
            headers.append(("Mcp-Name", _header_value(name)))
        return headers + _param_headers(schema, params.get("arguments", {}))


@dataclass(slots=True)
class Legacy:
    """2025-11-25 and before: `initialize` has told capabilities and identity, later requests name the session."""

    version: str
    session_id: str | None

    def params(self, params: dict[str, Any]) -> dict[str, Any]:
        return params

    def headers(self, method: str, params: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str]]:
        headers = [("MCP-Protocol-Version", self.version)]
        return headers + ([("Mcp-Session-Id", self.session_id)] if self.session_id else [])


def _named_by(method: str) -> str:
    """The param that `Mcp-Name` repeats."""
    if method == "resources/read":
        return "uri"
    return "taskId" if method.startswith("tasks/") else "name"


def _header_value(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _param_headers(schema: dict[str, Any], arguments: Any) -> list[tuple[str, str]]:
    """`Mcp-Param-*` for the properties whose schema has `x-mcp-header` (2026-07-28 streamable HTTP)."""
    headers = []
    properties = schema.get("properties")
    for name, declared in properties.items() if isinstance(properties, dict) else ():
        value = arguments.get(name) if isinstance(arguments, dict) else None
        if value is None or not isinstance(declared, dict):
            continue
        if isinstance(declared.get("x-mcp-header"), str):
            headers.append((f"Mcp-Param-{declared['x-mcp-header']}", _header_value(_plain_text(value))))
        headers += _param_headers(declared, value)
    return headers


def _plain_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
