"""The official Python client of the 1.x line beside a load: `python_1_30.py URL legacy`.

An answer of 5xx ends its session for good.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx  # noqa: ASYNC127 what this release of the client is built on
from call_loop import Call, Seen, call_until_stdin_ends
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

CALL_SECONDS = 30.0


@asynccontextmanager
async def connected(url: str, seen: Seen) -> AsyncIterator[Call]:
    timeout = httpx.Timeout(CALL_SECONDS, read=300)
    async with (
        httpx.AsyncClient(verify=False, timeout=timeout, headers={"connection": "close"}) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write, message_handler=seen.on_message) as session,
    ):
        await session.initialize()

        async def call() -> dict[str, Any]:
            return (await session.call_tool("where", {})).structuredContent or {}

        yield call


if __name__ == "__main__":
    anyio.run(call_until_stdin_ends, partial(connected, sys.argv[1]), CALL_SECONDS)
