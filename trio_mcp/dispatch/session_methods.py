"""The methods that only sessions have: `ping`, `logging/setLevel`, subscriptions, and a second `initialize`."""

from __future__ import annotations

from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.listening import MAX_KEPT_URI
from trio_mcp.dispatch.session import Conversation
from trio_mcp.protocol.envelope import LEVELS
from trio_mcp.protocol.errors import INVALID_REQUEST, InvalidParams, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import string_param

__all__ = ["initialize_again", "ping", "set_level", "subscribe", "unsubscribe"]


async def ping(call: Call) -> dict[str, Any]:
    """An empty result, at once (basic/utilities/ping)."""
    return {}


async def initialize_again(call: Call) -> dict[str, Any]:
    """Raises RemoteProtocolError: a session is opened once. HTTP and stdio refuse it themselves, before it becomes a call."""
    raise RemoteProtocolError(INVALID_REQUEST, "This session is already initialized")


async def set_level(call: Call) -> dict[str, Any]:
    """From now on the session gets log messages of this level and the more severe ones (server/utilities/logging).

    Raises InvalidParams for what is no level.
    """
    level = string_param(call.params, "level")
    if level not in LEVELS:
        raise InvalidParams(f"level must be one of {', '.join(LEVELS)}")
    _session(call).log_level = level
    return {}


async def subscribe(call: Call) -> dict[str, Any]:
    """From now on the client is notified when the resource changes (server/resources).

    Raises InvalidParams for a URI that is too long, RemoteProtocolError beyond the bounds of a session.
    """
    uri = string_param(call.params, "uri")
    if len(uri) > MAX_KEPT_URI:
        raise InvalidParams(f"params.uri is longer than {MAX_KEPT_URI} characters")
    _session(call).subscribe(uri)
    return {}


async def unsubscribe(call: Call) -> dict[str, Any]:
    """End a subscription (server/resources); one that does not exist is no error."""
    _session(call).unsubscribe(string_param(call.params, "uri"))
    return {}


def _session(call: Call) -> Conversation:
    assert call.session is not None, "only legacy versions have these methods, and their calls have a session"
    return call.session
