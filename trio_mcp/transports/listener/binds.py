"""Opens the addresses to listen on: TCP, Unix sockets, inherited descriptors."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress

import trio

__all__ = ["check_bind", "open_listeners", "remove_socket_files"]

BACKLOG = 2048
"""Connections that wait to be accepted: a burst of clients that reconnect after a deploy. The kernel caps it at its own limit."""


async def open_listeners(binds: Sequence[str], backlog: int = BACKLOG) -> list[trio.SocketListener]:
    """Listen on every bind: `host:port`, `[v6]:port`, `unix:/path` or `fd://3`; `backlog` connections wait to be accepted.

    Raises ValueError for text that is none of these, OSError when an address cannot be listened on; then none is left open.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for bind in binds:
            listeners += await _open(bind, backlog)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


def check_bind(bind: str) -> None:
    """Raises ValueError for text that is no `host:port`, `[v6]:port`, `unix:/path` or `fd://3`."""
    if bind.startswith("unix:"):
        _path_of(bind)
    elif bind.startswith("fd://"):
        _descriptor_of(bind)
    else:
        _host_and_port(bind)


def remove_socket_files(binds: Sequence[str]) -> None:
    """Remove the files of those Unix sockets among `binds` that nobody listens on, after their listeners were closed."""
    for bind in binds:
        if bind.startswith("unix:"):
            # OSError: another server listens there by now, and will remove it.
            with suppress(OSError):
                _remove_stale(bind.removeprefix("unix:"))


async def _open(bind: str, backlog: int) -> list[trio.SocketListener]:
    if bind.startswith("unix:"):
        return [_open_unix(_path_of(bind), backlog)]
    if bind.startswith("fd://"):
        return [_adopt(bind, backlog)]
    host, port = _host_and_port(bind)
    return await trio.open_tcp_listeners(port, host=host, backlog=backlog)


def _host_and_port(bind: str) -> tuple[str | None, int]:
    host, colon, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{bind!r}: an IPv6 address belongs in brackets, as in [::1]:8000")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        near = f", as in 127.0.0.1:{bind}" if bind.isascii() and bind.isdigit() else ""
        raise ValueError(f"{bind!r} is not host:port, [v6]:port, unix:/path or fd://number{near}")
    return host or None, int(port)


def _path_of(bind: str) -> str:
    path = bind.removeprefix("unix:")
    if not path:
        raise ValueError("'unix:' names no path, as unix:/run/mcp.sock does")
    return path


def _descriptor_of(bind: str) -> int:
    number = bind.removeprefix("fd://")
    if not number.isascii() or not number.isdigit():
        raise ValueError(f"{bind!r}: a descriptor is a number, as in fd://3")
    return int(number)


def _open_unix(path: str, backlog: int) -> trio.SocketListener:
    """Only our own user may connect (mode 0600); an operator may allow others with chmod."""
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def _remove_stale(path: str) -> None:
    """Remove the socket that a dead server left at `path`; nothing is done where a living one listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            # A living server with a full backlog: binding will raise that the address is in use.
            pass


def _adopt(bind: str, backlog: int) -> trio.SocketListener:
    listening = socket.socket(fileno=_descriptor_of(bind))
    try:
        listening.listen(backlog)
        return trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    except BaseException:
        listening.close()
        raise
