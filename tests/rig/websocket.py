"""An MCP client over one WebSocket, which does only what a test says: trio-websocket with JSON-RPC on it."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from tests.rig.waiting import PATIENCE

__all__ = ["MODERN", "WebSocketClient", "websocket"]

LEGACY = "2025-11-25"
MODERN: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
"""What makes a request one of 2026-07-28."""


class WebSocketClient:
    """One connection. Notifications and requests of the server are dropped."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._ids = count(1)

    @property
    def cookie(self) -> str:
        """What a balancer sent with the 101, as a client sends it back; "" without one."""
        found = [value for name, value in self._connection.handshake_headers if name.lower() == b"set-cookie"]
        return "; ".join(value.partition(b";")[0].decode() for value in found)

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The response to a request; raises ConnectionClosed when the connection ends first."""
        number = next(self._ids)
        await self.say({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while (heard := await self.hear()).get("id") != number:
            pass
        return heard

    async def say(self, message: object) -> None:
        """Send a message, as JSON unless it is a text already."""
        await self._connection.send_message(message if isinstance(message, str) else json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        found: dict[str, Any] = json.loads(await self._connection.get_message())
        return found

    async def initialize(self) -> dict[str, Any]:
        """Open a session; its result."""
        client = {"name": "rig", "version": "1"}
        answer = await self.ask("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=client)
        await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        found: dict[str, Any] = answer["result"]
        return found

    async def tool(self, name: str, **arguments: object) -> str:
        """The text of a tool's result, or of the error."""
        answer = await self.ask("tools/call", name=name, arguments=arguments)
        if "error" in answer:
            return str(answer["error"]["message"])
        return "".join(block["text"] for block in answer["result"]["content"])

    async def ended(self) -> int:
        """Wait until the server closes; its code, 1006 without a close frame."""
        try:
            while True:
                await self._connection.get_message()
        except ConnectionClosed as closed:
            return int(closed.reason.code) if closed.reason is not None else 1006


@asynccontextmanager
async def websocket(
    url: str,
    *,
    cookie: str = "",
    protocols: Sequence[str] = ("mcp",),
    headers: Sequence[tuple[str, str]] = (),
    trusted: str | None = None,
) -> AsyncIterator[WebSocketClient]:
    """A connection to `url` (http or https) for the length of the block; raises ConnectionRejected.

    `trusted` is the file of the only certificate to trust; without one all are.
    """
    context = ssl.create_default_context(cafile=trusted)
    if trusted is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sent = [(name.encode(), value.encode()) for name, value in [*headers, *([("cookie", cookie)] if cookie else [])]]
    target = urlsplit(url)
    host, port = target.hostname or "", target.port or 0
    secure = target.scheme == "https"
    rejected: BaseException | None = None
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream(host, port)
        if secure:
            stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                connection = await wrap_client_stream(
                    nursery,
                    stream,
                    f"{host}:{port}",
                    target.path,
                    subprotocols=protocols,
                    extra_headers=sent,
                    max_message_size=64 << 20,
                )
            yield WebSocketClient(connection)
            with trio.move_on_after(1):
                await connection.aclose()
            nursery.cancel_scope.cancel("the block has ended")
    except* HandshakeError as errors:
        rejected = errors.exceptions[0]
    finally:
        await trio.aclose_forcefully(stream)
    if rejected is not None:
        raise rejected
