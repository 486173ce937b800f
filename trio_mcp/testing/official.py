"""The official client with an ASGI app in place of the network. Imported by `connect` alone: `mcp` need not be installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from trio_mcp.testing.asgi import AsgiClient, AsgiExchange
from trio_mcp.testing.follow_tasks import FollowTasks

__all__ = ["AsgiTransport", "client_over"]


@asynccontextmanager
async def client_over(
    wire: AsgiClient, url: str, mode: str, headers: Mapping[str, str] | None, options: dict[str, Any]
) -> AsyncIterator[Client]:
    """A connected client that sends its requests to the app of `wire`."""
    for extension in options.get("extensions") or ():
        if isinstance(extension, FollowTasks):
            options = {**extension.callbacks, **options}
    async with httpx2.AsyncClient(transport=AsgiTransport(wire), headers=headers) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode, **options) as client:
            yield client


class AsgiTransport(httpx2.AsyncBaseTransport):
    """Passes bodies on as the app sends them; httpx2's own ASGI transport waits for their end, and streams have none."""

    def __init__(self, wire: AsgiClient) -> None:
        self._wire = wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns when the head of the response is there; a client that is cancelled before that disconnects."""
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw]
        target = request.url.raw_path.decode()
        exchange = self._wire.start(request.method, target, headers, await request.aread())
        try:
            status = await exchange.head()
        except BaseException:
            exchange.disconnect()
            raise
        return httpx2.Response(status, headers=exchange.headers, stream=_Body(exchange))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, exchange: AsgiExchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._exchange.chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """A client that closes a response before its end disconnects."""
        self._exchange.disconnect()
