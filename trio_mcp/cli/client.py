"""A small MCP client for a person at a terminal: both eras, one request at a time.

    async with connect(HttpWire(url), notify=print) as client:
        await client.list_all("tools/list", "tools")

It asks `server/discover` first and opens a session only where that is not known. It declares no capabilities, so a
server has nothing to ask it; what a legacy server asks anyway gets -32601, and a ping its pong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from trio_mcp.cli.dialect import CLIENT_INFO, Legacy
from trio_mcp.cli.rpc import Channel, HttpRefused, Notify, Refused
from trio_mcp.cli.wire import Wire, WireError
from trio_mcp.protocol.envelope import SERVER_INFO_KEY
from trio_mcp.protocol.versions import LATEST_LEGACY, V2026_07_28

__all__ = ["SILENCE_SECONDS", "Client", "connect"]

SILENCE_SECONDS = 60.0
"""Four keep-alive comments of a stream; what is silent that long is most likely gone."""

GOODBYE_SECONDS = 2.0
"""A person waits for their prompt: a server slow to end a session will time it out by itself."""


@asynccontextmanager
async def connect(
    wire: Wire, *, legacy: bool = False, notify: Notify = lambda method, params: None, silence: float = SILENCE_SECONDS
) -> AsyncIterator[Client]:
    """A client that has met its server; `silence` is how many seconds without a byte it bears."""
    client = Client(Channel(wire, notify, silence))
    try:
        await client.meet(legacy=legacy)
        yield client
    finally:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await client.leave()


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
        """The protocol version spoken."""
        return self._channel.dialect.version

    async def meet(self, *, legacy: bool) -> None:
        """Discover the server, or open a session with it."""
        if legacy or not await self._discover():
            await self._initialize()

    async def _discover(self) -> bool:
        try:
            found = await self._channel.request("server/discover", {})
        except (Refused, HttpRefused) as refusal:
            # A server that stumbles is not an old server: a session would only hide what is wrong with it.
            if refusal.status >= 500:
                raise
            return False
        self.server_info = found.get("_meta", {}).get(SERVER_INFO_KEY, {})
        self.versions = found.get("supportedVersions", [])
        self._remember(found)
        return V2026_07_28 in self.versions

    async def _initialize(self) -> None:
        self._channel.dialect = session = Legacy(LATEST_LEGACY, None)
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

    async def leave(self) -> None:
        """End the session, if there is one."""
        session = self._channel.dialect
        if not isinstance(session, Legacy) or session.session_id is None:
            return
        with suppress(WireError):
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
                raise WireError(f"the pages of {method} go round in a circle: {cursor!r} came twice")
            cursors.append(cursor)

    async def call_tool(self, tool: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """The CallToolResult of `tool`, an entry of `tools/list`."""
        params = {"name": tool["name"], "arguments": arguments, "_meta": {"progressToken": tool["name"]}}
        return await self._channel.request("tools/call", params, tool.get("inputSchema", {}))
