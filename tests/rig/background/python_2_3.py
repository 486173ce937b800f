"""The official Python client beside a load: `python_2_3.py URL MODE`."""

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
async def connected(url: str, mode: str, seen: Seen) -> AsyncIterator[Call]:
    async with httpx2.AsyncClient(verify=False, timeout=httpx2.Timeout(CALL_SECONDS, read=300)) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, message_handler=seen.on_message) as client:

            async def call() -> dict[str, Any]:
                return (await client.call_tool("where", {})).structured_content or {}

            yield call


if __name__ == "__main__":
    anyio.run(call_until_stdin_ends, partial(connected, sys.argv[1], sys.argv[2]), CALL_SECONDS, backend="trio")
