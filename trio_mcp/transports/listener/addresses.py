"""Both ends of a socket, as an ASGI scope names them."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TypeAlias

from trio.socket import SocketType

__all__ = ["Address", "client_of", "server_of"]

Address: TypeAlias = tuple[str, int | None]
"""Host and port, or a Unix socket's path and None."""


def client_of(connected: socket.socket | SocketType) -> Address | None:
    """The peer; None when it has no name (a Unix socket's) or has already gone."""
    with suppress(OSError):
        return _address(connected.getpeername())
    return None


def server_of(connected: socket.socket | SocketType) -> Address | None:
    """Our end; None like `client_of`."""
    with suppress(OSError):
        return _address(connected.getsockname())
    return None


def _address(name: object) -> Address | None:
    match name:
        case (str() as host, int() as port, *_):
            return (host, port)
        case str() as path if path:
            return (path, None)
    return None
