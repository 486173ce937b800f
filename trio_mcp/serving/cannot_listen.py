"""Why an address cannot be listened on, and what to do about it: in words."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys

from trio_mcp.protocol.errors import McpError

__all__ = ["LONGEST_PATH", "CannotListen", "cannot_listen"]

LONGEST_PATH: int = 107 if sys.platform == "linux" else 103
"""Bytes of a Unix socket's path: `sun_path` has room for 108 on Linux and for 104 on macOS and BSD, a zero at the end included."""

_NEXT_STEP = {
    errno.EADDRINUSE: "Stop the process that has it, or choose another with {port}",
    errno.EADDRNOTAVAIL: "This machine has no such address: see {address}",
    errno.EACCES: "Ports below 1024, and some folders, need more rights",
    errno.EBADF: "The program that starts this process must open that descriptor",
    errno.ENOTSOCK: "The program that starts this process must open a listening socket there",
}
_NEXT_STEP_UNIX = {
    errno.EADDRINUSE: "Stop the process that listens there, or choose another path",
    errno.ENOENT: "The folder of a Unix socket must exist",
    errno.ENOTDIR: "The folder of a Unix socket must exist",
    errno.EACCES: "This user may not make files in that folder, or the socket that is there is another user's",
    errno.EROFS: "Choose a folder in which files can be made, such as /run or /tmp",
    errno.ENOSPC: "Free some space there, or choose a folder on another disk",
}
_OF_NODE = {"port": "--port", "address": "--host or --bind"}
_OF_ADMIN = {"port": "--admin-bind", "address": "--admin-bind"}
"""The flags that the steps name."""

_KINDS = {
    stat.S_IFREG: "a plain file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
}


class CannotListen(McpError):
    """An address cannot be listened on; the text names it, the reason and what to do."""


def cannot_listen(bind: str, error: OSError | ValueError, *, admin: bool = False) -> CannotListen:
    """What to raise for a bind (`host:port`, `unix:/path`, `fd://3`) that `open_listeners` raised `error` for.

    `admin`: it is that of the admin listener, which has a flag of its own.
    """
    if isinstance(error, ValueError):
        return CannotListen(f"cannot listen: {error}")
    return CannotListen(f"cannot listen on {bind}: {_why(bind, error, _OF_ADMIN if admin else _OF_NODE)}")


def _why(bind: str, error: OSError, flags: dict[str, str]) -> str:
    if isinstance(error, socket.gaierror):
        return f"this name resolves to no address. Give {flags['address']} one of this machine"
    is_unix = bind.startswith("unix:")
    return (is_unix and _why_no_path(bind.removeprefix("unix:"), error)) or _reason(
        error, _NEXT_STEP_UNIX if is_unix else _NEXT_STEP, flags
    )


def _why_no_path(path: str, error: OSError) -> str | None:
    """What the kernel or Python does not say well of a path; None for the rest."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        return f"the path of a Unix socket has {LONGEST_PATH} bytes at most, and this one has {length}. Choose a shorter one"
    there = _kind(path) if error.errno == errno.EADDRINUSE else None
    return there and f"{there} is there, and no socket. Remove it, or choose another path"


def _kind(path: str) -> str | None:
    """What is at the path, unless it is a socket, or leads to one, or nothing is there any more."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return None
    except OSError:
        # A symbolic link that leads nowhere is something, too.
        pass
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "something else")
    except OSError:
        return None


def _reason(error: OSError, next_step: dict[int, str], flags: dict[str, str]) -> str:
    number = error.errno or 0
    reason = os.strerror(number).lower() if number else str(error)
    step = f". {next_step[number].format(**flags)}" if number in next_step else ""
    return f"{reason}{step}"
