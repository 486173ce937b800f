"""WebSockets to an HTTP app in memory: an ASGI server without a socket, and clients whose messages the official types judge."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import trio

from tests.oracle import Oracle
from tests.transports.http.harness import HOST, LEGACY, MODERN, patience
from trio_mcp import MCPServer
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, Message
from trio_mcp.transports.http.app import HttpApp

__all__ = ["CLIENT", "Door", "WebSocket", "bearer", "offering", "open_door"]

CLIENT: dict[str, Any] = {"capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}


def bearer(token: str) -> str:
    """The subprotocol that carries a token."""
    return "mcp.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@dataclass
class WebSocket:
    """One connection, as the ASGI server has it and as its client sees it."""

    app: HttpApp
    scope: dict[str, Any]
    status: int = 0
    """Of the response that refused the handshake; 101 when it was accepted."""
    subprotocol: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    closed: tuple[int, str] | None = None
    """The close frame of the server."""
    aborted: bool = False
    reads: trio.Event = field(default_factory=trio.Event)
    """Not set: the client reads nothing."""
    answered: trio.Event = field(default_factory=trio.Event)
    finished: trio.Event = field(default_factory=trio.Event)
    """The app has returned."""

    def __post_init__(self) -> None:
        self._to_app, self._from_client = trio.open_memory_channel[Message](10_000)
        self._to_client, self._from_app = trio.open_memory_channel[str](10_000)
        self._to_app.send_nowait({"type": "websocket.connect"})
        self.reads.set()
        self._left: Message | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._ids = count(1)
        self._legacy, self._modern = Oracle(LEGACY), Oracle(MODERN)
        self._modern_ids: set[int | str] = set()
        if DISCONNECT_EXTENSION in self.scope["extensions"]:
            self.scope["extensions"][DISCONNECT_EXTENSION] = {"register": self._callbacks.append, "abort": self._abort}

    async def run(self) -> None:
        try:
            await self.app(self.scope, self._receive, self._send)
        finally:
            self.answered.set()
            self.finished.set()
            self._to_client.close()

    def _abort(self) -> None:
        self.aborted = True
        self.leave(1006)

    async def _receive(self) -> Message:
        if self._left is not None:
            return self._left
        return await self._from_client.receive()

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if self._left is not None:
            raise trio.BrokenResourceError
        assert self.closed is None, "nothing follows a close"
        match message["type"]:
            case "websocket.accept":
                self.status, self.subprotocol = 101, message["subprotocol"]
                self.answered.set()
            case "websocket.send":
                await self.reads.wait()
                self._to_client.send_nowait(message["text"])
            case "websocket.close":
                self.closed = message.get("code", 403), message.get("reason", "")
            case "websocket.http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            case "websocket.http.response.body":
                self.body += message["body"]
                self.answered.set()

    # The client.

    def leave(self, code: int = 1000) -> None:
        """Close the connection; 1006: it is lost."""
        self._left = {"type": "websocket.disconnect", "code": code}
        self._to_app.send_nowait(self._left)

    def say(self, message: Any) -> None:
        """Send a message, or the text of one, or a binary frame."""
        kind = "bytes" if isinstance(message, bytes) else "text"
        text = message if isinstance(message, bytes | str) else json.dumps(message)
        self._to_app.send_nowait({"type": "websocket.receive", kind: text})

    async def hear(self, *, modern: bool = False) -> Any:
        """The next message, None at the end; `modern` says whose a notification is."""
        try:
            message = json.loads(await self._from_app.receive())
        except trio.EndOfChannel:
            return None
        answers_modern = isinstance(message, dict) and "method" not in message and message.get("id") in self._modern_ids
        return (self._modern if modern or answers_modern else self._legacy).heard(message)

    async def rest(self) -> list[Any]:
        """Everything up to the end."""
        found = []
        while (message := await self.hear()) is not None:
            found.append(message)
        return found

    def start(self, method: str, params: dict[str, Any] | None = None, id: int | str | None = None) -> int | str:
        """Send a legacy request; its id."""
        chosen = next(self._ids) if id is None else id
        self._legacy.asked(chosen, method)
        self.say({"jsonrpc": "2.0", "id": chosen, "method": method, "params": params or {}})
        return chosen

    def start_modern(
        self, method: str, params: dict[str, Any] | None = None, id: int | str | None = None, **meta: Any
    ) -> int | str:
        """Send a modern request; its id."""
        chosen = next(self._ids) if id is None else id
        self._modern.asked(chosen, method)
        self._modern_ids.add(chosen)
        full = {PROTOCOL_VERSION_KEY: MODERN, CLIENT_CAPABILITIES_KEY: {"elicitation": {}}, **meta}
        self.say({"jsonrpc": "2.0", "id": chosen, "method": method, "params": {**(params or {}), "_meta": full}})
        return chosen

    def call(self, name: str, id: int | str | None = None, **arguments: Any) -> int | str:
        """Send a legacy `tools/call`; its id."""
        return self.start("tools/call", {"name": name, "arguments": arguments}, id)

    def call_modern(self, name: str, id: int | str | None = None, **arguments: Any) -> int | str:
        """Send a modern `tools/call`; its id."""
        return self.start_modern("tools/call", {"name": name, "arguments": arguments}, id)

    def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def open(self, version: str = LEGACY) -> None:
        """Open the session."""
        self._legacy = Oracle(version)
        self.start("initialize", {"protocolVersion": version, **CLIENT}, id="open")
        assert (await self.hear())["result"]["protocolVersion"] == version
        self.notify("notifications/initialized")


class Door:
    """Opens WebSockets to one app."""

    def __init__(self, app: HttpApp, nursery: trio.Nursery) -> None:
        self.app = app
        self._nursery = nursery

    async def knock(
        self,
        *protocols: str,
        path: str = "/mcp",
        headers: Iterable[tuple[str, str]] = (),
        extensions: Iterable[str] = ("websocket.http.response", DISCONNECT_EXTENSION),
    ) -> WebSocket:
        """Send a handshake that offers `protocols`, and wait for its answer."""
        named = dict(headers)
        sent = {"host": HOST, **({"sec-websocket-protocol": ", ".join(protocols)} if protocols else {}), **named}
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "subprotocols": list(protocols),
            "extensions": dict.fromkeys(extensions),
        }
        socket = WebSocket(self.app, scope)
        self._nursery.start_soon(socket.run)
        await socket.answered.wait()
        return socket

    async def connect(self, *, headers: Iterable[tuple[str, str]] = ()) -> WebSocket:
        """A connection that was accepted."""
        socket = await self.knock("mcp", headers=headers)
        assert (socket.status, socket.subprotocol) == (101, "mcp"), socket.body
        return socket


@asynccontextmanager
async def open_door(app: HttpApp) -> AsyncIterator[Door]:
    """Open WebSockets to an app that runs already."""
    async with trio.open_nursery() as nursery:
        yield Door(app, nursery)
        nursery.cancel_scope.cancel("the test is over")


@asynccontextmanager
async def offering(mcp: MCPServer, **options: Any) -> AsyncIterator[Door]:
    """Serve WebSockets in memory for the length of the block; `options` are those of `http_app`."""
    app = mcp.http_app(**{"websocket": True, **options})
    with trio.fail_after(patience()):
        async with app.running(), open_door(app) as door:
            yield door
