"""The official Python client beside a load: `python_2_3.py URL MODE [close]`; with `close`, each call on a connection of its own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx2
from call_loop import Call, Seen, call_until_stdin_ends
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

CALL_SECONDS = 90.0


@asynccontextmanager
async def connected(url: str, mode: str, connections: str, seen: Seen) -> AsyncIterator[Call]:
    headers, timeout = {"connection": connections}, httpx2.Timeout(CALL_SECONDS, read=300)
    async with httpx2.AsyncClient(verify=False, timeout=timeout, headers=headers) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, message_handler=seen.on_message) as client:

            async def call() -> dict[str, Any]:
                return (await client.call_tool("where", {})).structured_content or {}

            yield call


if __name__ == "__main__":
    url, mode, connections = [*sys.argv[1:], "keep-alive"][:3]
    anyio.run(call_until_stdin_ends, partial(connected, url, mode, connections), CALL_SECONDS, backend="trio")
