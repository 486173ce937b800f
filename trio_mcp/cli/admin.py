"""A node's admin listener, as a command asks it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import trio

from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.wire import HttpWire, fetch
from trio_mcp.protocol.errors import McpError

__all__ = ["Admin", "AdminState"]

MISDIRECTED = 421
"""Its answer to a Host that is not its own."""

SILENCE_SECONDS = 10.0
"""It answers without waiting for anything: a process that takes longer stands still."""

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Who listens on all addresses is reached at one."""


@dataclass(frozen=True, slots=True)
class AdminState:
    """What a node says of itself."""

    boot: str
    status: str
    sessions: int

    @property
    def words(self) -> str:
        """`draining, 2 sessions`."""
        return f"{self.status}, {self.sessions} session{'' if self.sessions == 1 else 's'}"


class Admin:
    """At `bind`, as `--admin-bind` takes it. Its methods raise WireError when nobody is there."""

    def __init__(self, bind: str) -> None:
        self.name = bind
        self._base, self._socket = _reached_at(bind)

    async def state(self) -> AdminState:
        """Who it is, and what it still has."""
        alive = await self._json("GET", "/livez", (200, 503))
        sessions = await self._json("GET", "/sessions", (200,))
        if not isinstance(alive, dict) or not isinstance(sessions, list):
            raise self._stranger()
        return AdminState(str(alive.get("boot")), str(alive.get("status")), len(sessions))

    async def drain(self) -> None:
        """Ask it to stop."""
        await self._ask("POST", "/drain", (202,))

    async def _json(self, method: str, path: str, statuses: tuple[int, ...]) -> Any:
        body = await self._ask(method, path, statuses)
        try:
            return json.loads(body)
        except ValueError:
            raise self._stranger() from None

    async def _ask(self, method: str, path: str, statuses: tuple[int, ...]) -> bytes:
        wire = HttpWire(f"{self._base}{path}", socket=self._socket)
        try:
            with trio.fail_after(SILENCE_SECONDS):
                head, body = await fetch(wire, method)
        except trio.TooSlowError:
            raise McpError(f"{self.name} takes connections and has been silent for {SILENCE_SECONDS:g} s") from None
        if head.status == MISDIRECTED:
            raise McpError(
                f"{self.name} does not answer to that name: use its IP address, or set the node's --admin-hosts"
            )
        if head.status not in statuses:
            raise self._stranger()
        return body

    def _stranger(self) -> McpError:
        return McpError(f"{self.name} is no admin listener of trio-mcp: that is at a node's --admin-bind")


def _reached_at(bind: str) -> tuple[str, str]:
    """A URL, and the path of a Unix socket or nothing."""
    if bind.startswith("unix:"):
        return "http://localhost", bind.removeprefix("unix:")
    if bind.startswith("fd://"):
        raise UsageError(f"{bind} is a descriptor of the node's own: name the address behind it")
    host, colon, port = bind.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError(f"{bind!r} is no admin listener, such as 127.0.0.1:9464 or unix:/run/mcp-admin.sock")
    return f"http://{_ANY.get(host, host)}:{port}", ""
