"""The official Python client of the 1.x line, `mcp` 1.30: `python_1_30.py URL legacy COUNT`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urljoin

import anyio
import httpx  # noqa: ASYNC127 what this release of the client is built on
from many_connections import ALL_URIS, Call, all_announced, connections, say, verdict
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


class Peer:
    """A client and what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.http = httpx.AsyncClient(
            verify=False, timeout=httpx.Timeout(120, read=300), headers={"connection": "close"}
        )

    async def on_message(self, message: object) -> None:
        notice = getattr(message, "root", None)
        if isinstance(notice, types.ResourceUpdatedNotification):
            self.heard.append(str(notice.params.uri))

    @asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[ClientSession]:
        async with (
            self.http as http,
            streamable_http_client(url, http_client=http) as (read, write, _),
            ClientSession(read, write, message_handler=self.on_message) as session,
        ):
            await session.initialize()
            yield session

    async def announce(self, url: str) -> str:
        self.http.cookies.clear()
        return str((await self.http.post(urljoin(url, "/announce"))).json()["node"])


async def told(session: ClientSession, tool: str) -> dict[str, Any]:
    result = await session.call_tool(tool, {})
    assert not result.isError, result
    return dict(result.structuredContent or {})


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[Call]:
    async with Peer().connected(url) as session:
        yield partial(told, session)


async def notification(url: str) -> None:
    peer = Peer()
    async with peer.connected(url) as session:
        for uri in ALL_URIS:
            await session.subscribe_resource(uri)
        await all_announced(partial(peer.announce, url), peer.heard)


async def main(url: str, count: int) -> None:
    say(
        connections=await connections(partial(calling, url), count),
        notification=await verdict(partial(notification, url)),
        elicitation="-",
    )


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[3]))
