"""The ASGI 3 types that the listener, the HTTP app and the test client share, and the extension of our own listener."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["DISCONNECT_EXTENSION", "MOVE_EXTENSION", "ASGIApp", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECT_EXTENSION = "trio_mcp.disconnect"
"""`scope["extensions"][DISCONNECT_EXTENSION]` of our own listener is a dict of functions.

`register(callback)` has `callback` called once when the client disconnects, without a task that waits for it; at once if it has.
`abort()` ends the connection after a response that has begun and cannot be completed.
A WebSocket has `on_progress(callback)` as well: `callback()` is called whenever the client took a part of a message that did not go out
at once.
"""

MOVE_EXTENSION = "trio_mcp.move"
"""`scope["extensions"][MOVE_EXTENSION]` of a connection that can move to another process of the node: `move(content, to)`, with the
whole body of the request and the address of the process. True: that one answers, and the app sends nothing.
"""
