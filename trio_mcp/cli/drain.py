"""`drain`: tell a node to stop, through its admin listener, and follow it until its process is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from trio_mcp.cli.arguments import UsageError
from trio_mcp.http_client import HttpClient, HttpClientError, fetch
from trio_mcp.observability.logs import printable
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import load_one

__all__ = ["Admin", "AdminState", "drain", "follow"]

MISDIRECTED = 421
"""The status for a Host that the admin listener does not know."""

UNAUTHORIZED = 401

SILENCE_SECONDS = 10.0
"""It answers from memory: a process that takes longer is stopped or stuck."""

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Where a listener on all addresses is reached from the same host."""

POLL_SECONDS = 0.2
MISSED_POLLS = 2
"""A process that ends in the middle of an answer misses one; only one that is gone misses two in a row."""


def drain(
    admin: str | None = None,
    /,
    *,
    admin_bind: Annotated[
        str | None, Parameter(help="As the node has it; TRIO_MCP_ADMIN_BIND. The same as ADMIN.")
    ] = None,
    wait: Annotated[bool, Parameter(help="Follow the node until it is gone.")] = True,
) -> int:
    """Drain a node through its admin listener, as SIGTERM would: it takes no new work, finishes what it has, and ends.

    Parameters
    ----------
    admin
        Where its admin listener is: `127.0.0.1:9464` or `unix:/run/mcp-admin.sock`.
    """
    # What is named here may be a URL as well, which no node can listen on.
    bind = admin if admin is not None else admin_bind if admin_bind is not None else load_one("admin_bind")
    if bind is None:
        raise UsageError("which node? Name its admin listener, as in `trio-mcp drain 127.0.0.1:9464`")
    token = load_one("admin_token")
    return trio.run(_drain, Admin(bind, None if token is None else token.get_secret_value()), wait)


async def _drain(admin: Admin, wait: bool) -> int:
    before = await admin.state()
    await admin.drain()
    if not wait:
        print(f"{admin.name} drains")
        return 0
    started = trio.current_time()
    await follow(admin, before)
    print(f"{admin.name} is gone, after {trio.current_time() - started:.0f} s")
    return 0


async def follow(admin: Admin, before: AdminState) -> None:
    """Print each change of state until nothing listens there any more, or another process than `before` does."""
    printed: AdminState | None = None
    missed = 0
    while missed < MISSED_POLLS:
        try:
            state = await admin.state()
        except HttpClientError:
            missed += 1
        else:
            if state.boot != before.boot:
                return
            if state != printed:
                print(printable(state.words), flush=True)
            missed, printed = 0, state
        await trio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class AdminState:
    """What a node's admin listener says: its process, its status and how many sessions it has."""

    boot: str
    status: str
    sessions: int

    @property
    def words(self) -> str:
        """`draining, 2 sessions`."""
        return f"{self.status}, {self.sessions} session{'' if self.sessions == 1 else 's'}"


class Admin:
    """The admin listener of one node, at `bind` as `--admin-bind` takes it; `token` is its `--admin-token`.

    Its methods raise HttpClientError when nothing listens there, McpError when something else does.
    """

    def __init__(self, bind: str, token: str | None = None) -> None:
        self.name = bind
        self._headers = [] if token is None else [("authorization", f"Bearer {token}")]
        self._base, self._socket = _reached_at(bind)

    async def state(self) -> AdminState:
        """Ask for the node's state."""
        alive = await self._json("GET", "/livez", (200, 503))
        sessions = await self._json("GET", "/sessions", (200,))
        if not isinstance(alive, dict) or not isinstance(sessions, list):
            raise self._no_admin_listener()
        return AdminState(str(alive.get("boot")), str(alive.get("status")), len(sessions))

    async def drain(self) -> None:
        """Tell the node to stop."""
        await self._ask("POST", "/drain", (202,))

    async def _json(self, method: str, path: str, statuses: tuple[int, ...]) -> Any:
        body = await self._ask(method, path, statuses)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._no_admin_listener() from None

    async def _ask(self, method: str, path: str, statuses: tuple[int, ...]) -> bytes:
        client = HttpClient(f"{self._base}{path}", socket=self._socket)
        try:
            head, body = await fetch(client, method, seconds=SILENCE_SECONDS, headers=self._headers)
        except trio.TooSlowError:
            raise McpError(
                f"{self.name} takes connections and has been silent for {SILENCE_SECONDS:g} s: its process is stopped, or stuck"
            ) from None
        if head.status == MISDIRECTED:
            raise McpError(
                f"{self.name} does not answer to that name: use its IP address, or set the node's --admin-hosts"
            )
        if head.status == UNAUTHORIZED:
            raise McpError(f"{self.name} asks for its --admin-token: set TRIO_MCP_ADMIN_TOKEN to the same")
        if head.status not in statuses:
            raise self._no_admin_listener()
        return body

    def _no_admin_listener(self) -> McpError:
        return McpError(f"{self.name} is no admin listener of trio-mcp: that is at a node's --admin-bind")


def _reached_at(bind: str) -> tuple[str, str]:
    """A URL, and the path of a Unix socket or ""."""
    if bind.startswith("unix:"):
        return "http://localhost", bind.removeprefix("unix:")
    if bind.startswith("fd://"):
        raise UsageError(f"{bind} is a descriptor of the node's own: name the address behind it")
    host, colon, port = bind.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError(f"{bind!r} is no admin listener, such as 127.0.0.1:9464 or unix:/run/mcp-admin.sock")
    return f"http://{_ANY.get(host, host)}:{port}", ""
