"""What a modern request says of itself in `params._meta` (2026-07-28 basic/index), and the log levels it may ask for."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import msgspec

from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.errors import UNSUPPORTED_VERSION, InvalidParams, RemoteProtocolError
from trio_mcp.protocol.versions import MODERN_VERSIONS, SERVED_VERSIONS

__all__ = [
    "CLIENT_CAPABILITIES_KEY",
    "CLIENT_INFO_KEY",
    "LEVELS",
    "LOG_LEVEL_KEY",
    "SERVER_INFO_KEY",
    "SUBSCRIPTION_ID_KEY",
    "Envelope",
    "LogLevel",
    "at_least",
    "read_envelope",
    "require_served",
]

CLIENT_CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_KEY = "io.modelcontextprotocol/clientInfo"
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
SERVER_INFO_KEY = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_ID_KEY = "io.modelcontextprotocol/subscriptionId"

LogLevel: TypeAlias = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
"""Of `notifications/message`, the least severe first (server/utilities/logging, every version; RFC 5424)."""

_RANK: dict[str, int] = {level: rank for rank, level in enumerate(LEVELS)}


def at_least(level: str, threshold: str) -> bool:
    """Whether a message of `level` passes a filter set to `threshold`."""
    return _RANK[level] >= _RANK[threshold]


class Envelope(msgspec.Struct, frozen=True):
    """The client, as one request describes it."""

    version: str
    capabilities: dict[str, Any]
    client_info: dict[str, Any]
    log_level: str | None


def read_envelope(params: dict[str, Any]) -> Envelope:
    """The envelope of a request; raises InvalidParams for one that is missing or incomplete. Any version passes."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        raise InvalidParams("params._meta is missing: every request of 2026-07-28 carries one")
    version = meta.get(PROTOCOL_VERSION_KEY)
    if not isinstance(version, str):
        raise InvalidParams(f"params._meta lacks {PROTOCOL_VERSION_KEY}, a string")
    capabilities = meta.get(CLIENT_CAPABILITIES_KEY)
    if not isinstance(capabilities, dict):
        raise InvalidParams(f"params._meta lacks {CLIENT_CAPABILITIES_KEY}, an object")
    client_info = meta.get(CLIENT_INFO_KEY)
    return Envelope(version, capabilities, client_info if isinstance(client_info, dict) else {}, _log_level(meta))


def _log_level(meta: dict[str, Any]) -> str | None:
    level = meta.get(LOG_LEVEL_KEY)
    if level is not None and level not in LEVELS:
        raise InvalidParams(f"{LOG_LEVEL_KEY} is not one of {', '.join(LEVELS)}")
    return level


def require_served(version: str) -> None:
    """Raise RemoteProtocolError (-32022) unless `version` is a modern version that is served here."""
    if version not in MODERN_VERSIONS:
        raise RemoteProtocolError(
            UNSUPPORTED_VERSION,
            f"Protocol version {version[:64]} is not served here",
            {"supported": list(SERVED_VERSIONS), "requested": version},
        )
