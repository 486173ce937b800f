"""A small HTTP/1.1 server for ASGI apps on Trio."""

from __future__ import annotations

from trio_mcp.transports.asgi import ASGIApp, Message, Receive, Scope, Send
from trio_mcp.transports.listener.binds import open_listeners, remove_socket_files
from trio_mcp.transports.listener.limits import Limits
from trio_mcp.transports.listener.server import Listener, serve
from trio_mcp.transports.listener.wire import ClientDisconnected

__all__ = [
    "ASGIApp",
    "ClientDisconnected",
    "Limits",
    "Listener",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "open_listeners",
    "remove_socket_files",
    "serve",
]
