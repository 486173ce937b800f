"""A small HTTP/1.1 server for ASGI apps on Trio."""

from __future__ import annotations

from trio_mcp.transports.asgi import ASGIApp, Message, Receive, Scope, Send
from trio_mcp.transports.listener.binds import open_listeners, remove_socket_files
from trio_mcp.transports.listener.errors import ClientDisconnected
from trio_mcp.transports.listener.exchange import DISCONNECT_EXTENSION
from trio_mcp.transports.listener.limits import Limits
from trio_mcp.transports.listener.serving import serve

__all__ = [
    "DISCONNECT_EXTENSION",
    "ASGIApp",
    "ClientDisconnected",
    "Limits",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "open_listeners",
    "remove_socket_files",
    "serve",
]
