"""`initialize`: what a legacy client offers, and the version that is negotiated (basic/lifecycle)."""

from __future__ import annotations

from typing import Any

import msgspec

from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.protocol.versions import LATEST_LEGACY, LEGACY_VERSIONS, V2025_06_18, V2025_11_25

__all__ = ["Offer", "negotiate", "read_offer", "usable"]

_SINCE = {
    "elicitation": V2025_06_18,
    "elicitation.url": V2025_11_25,
    "sampling.tools": V2025_11_25,
}
"""Client capabilities that came after 2024-11-05, by version; in older ones the requests they allow do not exist."""


MAX_OFFER_BYTES = 64 * 1024
"""Of capabilities and client info: a session keeps them, and a node may have ten thousand sessions."""


class Offer(msgspec.Struct, frozen=True):
    """The params of a legacy client's `initialize`, checked."""

    version: str
    capabilities: dict[str, Any]
    client_info: dict[str, Any]


def read_offer(params: dict[str, Any]) -> Offer:
    """The offer in the params of `initialize`; raises InvalidParams, with the member that is missing or of the wrong type."""
    version = params.get("protocolVersion")
    if not isinstance(version, str):
        raise InvalidParams("initialize lacks protocolVersion, a string")
    capabilities, client_info = params.get("capabilities"), params.get("clientInfo")
    if not isinstance(capabilities, dict):
        raise InvalidParams("initialize lacks capabilities, an object")
    if not isinstance(client_info, dict):
        raise InvalidParams("initialize lacks clientInfo, an object")
    if len(encode((capabilities, client_info))) > MAX_OFFER_BYTES:
        raise InvalidParams(f"clientInfo and capabilities are more than {MAX_OFFER_BYTES} bytes")
    return Offer(version, capabilities, client_info)


def negotiate(requested: str) -> str:
    """The requested version where it is served here, else the latest legacy one; never a modern one."""
    return requested if requested in LEGACY_VERSIONS else LATEST_LEGACY


def usable(capabilities: dict[str, Any], version: str) -> dict[str, Any]:
    """The capabilities that the version has: "Both parties MUST … only use capabilities that were successfully negotiated"."""
    known = {name: detail for name, detail in capabilities.items() if _SINCE.get(name, "") <= version}
    return {name: _usable_details(name, detail, version) for name, detail in known.items()}


def _usable_details(name: str, detail: Any, version: str) -> Any:
    if not isinstance(detail, dict):
        return detail
    return {key: value for key, value in detail.items() if _SINCE.get(f"{name}.{key}", "") <= version}
