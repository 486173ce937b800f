"""A small MCP client for the command line: both eras, one request at a time.

    async with connect(HttpClient(url), notify=print) as client:
        await client.list_all("tools/list", "tools")

It sends `server/discover` first, and opens a session only where the server does not know that method. It declares no
capabilities unless it is told to, and none in a session: what a server asks there is answered with -32601, but for `ping`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from trio_mcp.cli.arguments import SILENCE_SECONDS
from trio_mcp.cli.json_rpc import Channel, Notify
from trio_mcp.cli.refusals import HttpRefused, Refused
from trio_mcp.cli.request_forms import CLIENT_INFO, Legacy, Modern
from trio_mcp.http_client import HttpClientError, HttpTransport
from trio_mcp.protocol.envelope import SERVER_INFO_KEY
from trio_mcp.protocol.versions import LATEST_LEGACY, V2026_07_28

__all__ = ["Client", "connect"]

DELETE_SECONDS = 2.0
"""How long a DELETE may take: the command has printed its result, and an idle session expires by itself."""

_BY_THE_SERVER_ITSELF = (500, 501)
"""What an old server may answer to a method that it does not know; 502 and later are of who is in front of it, or of one without room."""


@asynccontextmanager
async def connect(
    transport: HttpTransport,
    *,
    legacy: bool = False,
    notify: Notify = lambda method, params: None,
    silence: float = SILENCE_SECONDS,
) -> AsyncIterator[Client]:
    """A client that knows its server and can send requests; a session ends with the block.

    `legacy` opens a session without trying 2026-07-28. `notify` gets method and params of each notification. Raises
    HttpClientError when the server is silent for `silence` seconds, or cannot be reached.
    """
    client = Client(Channel(transport, notify, silence))
    try:
        await client.open(legacy=legacy)
        yield client
    finally:
        with trio.move_on_after(DELETE_SECONDS, shield=True):
            await client.end_session()


class Client:
    """One conversation with a server."""

    def __init__(self, channel: Channel) -> None:
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.versions: list[str] = []
        self._channel = channel

    @property
    def version(self) -> str:
        """The protocol version in use."""
        return self._channel.form.version

    async def open(self, *, legacy: bool) -> None:
        """Discover the server, or open a session with it."""
        if legacy or not await self._discover():
            await self._initialize()

    async def _discover(self) -> bool:
        try:
            found = await self._channel.request("server/discover", {})
        except (Refused, HttpRefused) as refusal:
            # A server that fails is not an old server: opening a session would hide what is wrong with it.
            if refusal.status >= 500:
                if refusal.status in _BY_THE_SERVER_ITSELF:
                    refusal.next_step = ". It may not know 2026-07-28: try --legacy"
                raise
            return False
        self.server_info = found.get("_meta", {}).get(SERVER_INFO_KEY, {})
        self.versions = found.get("supportedVersions", [])
        self._remember(found)
        return V2026_07_28 in self.versions

    async def _initialize(self) -> None:
        self._channel.form = session = Legacy(LATEST_LEGACY, None)
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": CLIENT_INFO}
        found = await self._channel.request("initialize", params)
        session.version = found.get("protocolVersion", LATEST_LEGACY)
        self.server_info = found.get("serverInfo", {})
        self.versions = [session.version]
        self._remember(found)
        await self._channel.tell({"method": "notifications/initialized"})

    def _remember(self, found: dict[str, Any]) -> None:
        self.capabilities = found.get("capabilities", {})
        self.instructions = found.get("instructions")

    async def end_session(self) -> None:
        """End the session, if there is one."""
        session = self._channel.form
        if not isinstance(session, Legacy) or session.session_id is None:
            return
        with suppress(HttpClientError):
            async with self._channel.exchange("DELETE", session.headers("", {}, {})):
                pass

    async def list_all(self, method: str, key: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        items: list[dict[str, Any]] = []
        cursors: list[str] = []
        while True:
            page = await self._channel.request(method, {"cursor": cursors[-1]} if cursors else {})
            items += page.get(key, [])
            cursor = page.get("nextCursor")
            if cursor is None:
                return items
            if cursor in cursors:
                raise HttpClientError(f"the pages of {method} never end: the cursor {cursor!r} came twice")
            cursors.append(cursor)

    def declare(self, capabilities: dict[str, Any]) -> None:
        """Declare ClientCapabilities in each request from now on; nothing in a session, which has none."""
        if not isinstance(self._channel.form, Legacy):
            self._channel.form = Modern(capabilities)

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of any request; raises as `Channel.request` does."""
        return await self._channel.request(method, params)

    async def call_tool(
        self, tool: dict[str, Any], arguments: dict[str, Any], retry: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What `tools/call` gives for `tool`, an entry of `tools/list`: a CallToolResult, or whatever may stand for it.

        `retry` has the params that answer an `input_required`.
        """
        params = {
            "name": tool["name"],
            "arguments": arguments,
            "_meta": {"progressToken": tool["name"]},
            **(retry or {}),
        }
        return await self._channel.request("tools/call", params, tool.get("inputSchema", {}))
