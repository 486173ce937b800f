"""Which era a message belongs to: its body decides, headers are only compared with it (2026-07-28 basic/versioning)."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from trio_mcp.protocol.jsonrpc import Batch, Message, Reply, Request
from trio_mcp.protocol.versions import V2026_07_28

__all__ = ["PROTOCOL_VERSION_KEY", "InSession", "Modern", "Opening", "Route", "Sessionless", "names_modern", "route"]

PROTOCOL_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class Modern(msgspec.Struct, frozen=True, gc=False):
    """A message of 2026-07-28 or later, without a session: the task of its exchange runs it."""

    message: Message


class Opening(msgspec.Struct, frozen=True, gc=False):
    """`initialize`: opens a session."""

    request: Request


class InSession(msgspec.Struct, frozen=True, gc=False):
    """A message of the session that its header names."""

    session_id: str
    message: Message | Batch


class Sessionless(msgspec.Struct, frozen=True, gc=False):
    """A legacy message other than `initialize`, without a session id: 400."""

    message: Message | Batch


Route: TypeAlias = Modern | Opening | InSession | Sessionless


def route(message: Message | Batch, *, version_header: str | None, session_id: str | None) -> Route:
    """Decide by the body's `_meta`; without it, and without a session id, by a version header of the modern era."""
    if isinstance(message, list):
        return InSession(session_id, message) if session_id else Sessionless(message)
    if _has_modern_meta(message):
        return Modern(message)
    if isinstance(message, Request) and message.method == "initialize":
        # A session id on `initialize` is ignored: it is an old one, and the client wants a new session.
        return Opening(message)
    if session_id:
        return InSession(session_id, message)
    if version_header is not None and names_modern(version_header):
        return Modern(message)
    return Sessionless(message)


def names_modern(version: str) -> bool:
    """Whether a version is 2026-07-28 or later, or no date, as all older versions are."""
    return version >= V2026_07_28 if _DATE.fullmatch(version) else True


def _has_modern_meta(message: Message) -> bool:
    if isinstance(message, Reply):
        return False
    meta = message.params.get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_KEY in meta
