"""A hub that runs, and helpers that send requests to its sessions and read what they send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.oracle import Oracle
from trio_mcp import MCPServer
from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.options import Options
from trio_mcp.protocol.handshake import Offer
from trio_mcp.protocol.jsonrpc import Request
from trio_mcp.sessions.hub import Hub, HubOptions
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.streams.event_log import EventLog

__all__ = ["ANN", "BOB", "OFFER", "Listener", "ask", "open_hub", "replies"]

ANN, BOB = Principal("ann"), Principal("bob")

OFFER = Offer("2025-11-25", {"elicitation": {}, "roots": {}}, {"name": "test", "version": "1"})


@asynccontextmanager
async def open_hub(mcp: MCPServer, options: Options | None = None, **hub_options: Any) -> AsyncIterator[Hub]:
    """A hub and the bus of its service, running for the length of the block."""
    service = mcp.service(options)
    hub = mcp.hub(service, HubOptions(**hub_options))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.bus.pump)
        async with hub.running():
            yield hub
        nursery.cancel_scope.cancel()


async def replies(log: EventLog) -> list[Any]:
    """All messages of a log until it ends."""
    reader = log.open_reader()
    found: list[Any] = []
    while batch := await reader.batch():
        for entry in batch:
            reader.wrote(entry)
            found.append(msgspec.json.decode(entry.data))
    return found


async def ask(session: LiveSession, method: str, params: dict[str, Any] | None = None, id: int | str = "once") -> Any:
    """Send one request and wait for its reply; the result, or the error."""
    oracle = Oracle(session.protocol_version)
    oracle.asked(id, method)
    *said, reply = await replies(
        session.accept([Request(id, method, params or {})], who=session.principal, streams=True)
    )
    for message in said:
        oracle.heard(message)
    oracle.heard(reply)
    return reply.get("result", reply.get("error"))


class Listener:
    """Reads the messages that a session sends on its own stream."""

    def __init__(self, session: LiveSession) -> None:
        self._reader = session.streams.standalone.open_reader()
        self._oracle = Oracle(session.protocol_version)

    def heard(self) -> list[dict[str, Any]]:
        """The messages since the last call."""
        log = self._reader.log
        found = log.after(self._reader.cursor) if log.last > self._reader.cursor else []
        for entry in found:
            self._reader.wrote(entry)
        return [self._oracle.heard(msgspec.json.decode(entry.data)) for entry in found]
