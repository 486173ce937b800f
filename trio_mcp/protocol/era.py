"""Which era a message belongs to: the body decides, headers only cross-check (2026-07-28 basic/versioning)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from trio_mcp.protocol.jsonrpc import Batch, Message, Notification, Reply, Request
from trio_mcp.protocol.versions import V2026_07_28

__all__ = ["PROTOCOL_VERSION_KEY", "InSession", "Modern", "Opening", "Route", "Sessionless", "names_modern", "route"]

PROTOCOL_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Modern:
    """Stands alone; its exchange's task runs it."""

    message: Message


@dataclass(frozen=True, slots=True)
class Opening:
    """`initialize`: asks for a session."""

    request: Request


@dataclass(frozen=True, slots=True)
class InSession:
    """Belongs to the session it names."""

    session_id: str
    message: Message | Batch


@dataclass(frozen=True, slots=True)
class Sessionless:
    """Legacy, not `initialize`, and without a session id: 400."""

    message: Message | Batch


Route: TypeAlias = Modern | Opening | InSession | Sessionless


def route(message: Message | Batch, *, version_header: str | None, session_id: str | None) -> Route:
    """Decide by the body's `_meta`; a header that names a modern version counts when no session is named."""
    if isinstance(message, list):
        return InSession(session_id, message) if session_id else Sessionless(message)
    if _has_modern_meta(message):
        return Modern(message)
    if isinstance(message, Request) and message.method == "initialize":
        # A stale session id on `initialize` is ignored: the client has understood that it needs a new one.
        return Opening(message)
    if session_id:
        return InSession(session_id, message)
    if version_header is not None and names_modern(version_header):
        return Modern(message)
    return Sessionless(message)


def names_modern(version: str) -> bool:
    """Whether a version is 2026-07-28, later, or nothing an older revision could have meant."""
    return version >= V2026_07_28 if _DATE.fullmatch(version) else True


def _has_modern_meta(message: Message) -> bool:
    if isinstance(message, Reply):
        return False
    meta = message.params.get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_KEY in meta and isinstance(message, Request | Notification)
