"""A raw MCP client over a real socket: it parses with h11, and reads only when told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Peer:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self.status = 0
        self.headers: dict[str, str] = {}
        self._text = ""

    async def request(self, method: str, headers: dict[str, str], body: Any = None) -> None:
        """Send a request; read nothing."""
        data = b"" if body is None else json.dumps(body).encode()
        full = {"host": "127.0.0.1", "accept": "application/json, text/event-stream", **headers}
        if data:
            full |= {"content-type": "application/json", "content-length": str(len(data))}
        events: list[Any] = [h11.Request(method=method, target="/mcp", headers=list(full.items()))]
        if data:
            events.append(h11.Data(data=data))
        events.append(h11.EndOfMessage())
        await self.stream.send_all(b"".join(self._http.send(event) or b"" for event in events))

    async def call(self, session: str, id: int, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a request of a legacy session."""
        headers = {"mcp-session-id": session, "mcp-protocol-version": LEGACY}
        await self.request("POST", headers, {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}})

    async def tool(self, session: str, id: int, name: str, **arguments: Any) -> None:
        """Send a tools/call of a legacy session."""
        await self.call(session, id, "tools/call", {"name": name, "arguments": arguments})

    async def modern(
        self, id: int, method: str, params: dict[str, Any], name: str | None = None, log_level: str | None = None
    ) -> None:
        """Send a request of 2026-07-28."""
        meta = _META if log_level is None else {**_META, "io.modelcontextprotocol/logLevel": log_level}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if name is not None:
            headers["mcp-name"] = name
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}
        await self.request("POST", headers, body)

    async def listen(self, session: str) -> None:
        """Open the session's GET stream."""
        headers = {"mcp-session-id": session, "mcp-protocol-version": LEGACY, "accept": "text/event-stream"}
        await self.request("GET", headers)

    async def next_event(self) -> Any:
        """The next h11 event."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self.stream.receive_some(65536))

    async def head(self) -> int:
        """Read the response head; its status."""
        response = await self.next_event()
        assert isinstance(response, h11.Response), response
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}
        return self.status

    async def rest(self) -> str:
        """Read the body to its clean end; an unclean one raises h11.RemoteProtocolError."""
        while True:
            event = await self.next_event()
            if isinstance(event, h11.Data):
                self._text += event.data.decode()
            elif isinstance(event, h11.EndOfMessage):
                text, self._text = self._text, ""
                if self._http.their_state is h11.DONE and self._http.our_state is h11.DONE:
                    self._http.start_next_cycle()
                return text
            else:
                raise AssertionError(f"not a body: {event}")

    async def message(self) -> Any:
        """The next JSON-RPC message of a stream."""
        while True:
            while "\n\n" in self._text:
                block, self._text = self._text.split("\n\n", 1)
                for line in block.split("\n"):
                    if line.startswith("data: ") and line != "data: ":
                        return json.loads(line[6:])
            event = await self.next_event()
            assert isinstance(event, h11.Data), f"the stream ended: {event}"
            self._text += event.data.decode()

    async def answer(self) -> Any:
        """Head and body of a whole reply: the JSON document, or the stream's messages."""
        await self.head()
        text = await self.rest()
        if "event-stream" not in self.headers.get("content-type", ""):
            return json.loads(text) if text else None
        lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line]


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Peer]:
    """A connection for the length of the block."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield Peer(stream)


async def open_session(port: int, version: str = LEGACY) -> str:
    """Initialize on a connection of its own; the session id."""
    async with connect(port) as peer:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        await peer.request("POST", {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        await peer.answer()
        assert peer.status == 200
        return peer.headers["mcp-session-id"]
