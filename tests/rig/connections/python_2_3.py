"""The official Python client, `mcp` 2.3: `python_2_3.py URL legacy|auto COUNT`. Every request has a connection of its own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urljoin

import anyio
import httpx2
import mcp_types as types
from many_connections import ALL_URIS, Call, all_announced, connections, node_of, say, verdict
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


@dataclass
class Peer:
    """A connected client and what it was told."""

    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    http: httpx2.AsyncClient = field(
        default_factory=lambda: httpx2.AsyncClient(
            verify=False, timeout=httpx2.Timeout(120, read=300), headers={"connection": "close"}
        )
    )

    async def on_message(self, message: object) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.heard.append(str(message.params.uri))

    async def on_elicitation(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(node_of(params.message))
        self.http.cookies.clear()  # or the cookie would take the answer to the node that asked
        return types.ElicitResult(action="accept", content={"name": "ada"})

    @asynccontextmanager
    async def connected(self, url: str, mode: str) -> AsyncIterator[Client]:
        async with self.http:
            transport = streamable_http_client(url, http_client=self.http)
            async with Client(
                transport, mode=mode, message_handler=self.on_message, elicitation_callback=self.on_elicitation
            ) as client:
                yield client

    async def announce(self, url: str) -> str:
        self.http.cookies.clear()
        return str((await self.http.post(urljoin(url, "/announce"))).json()["node"])


async def told(client: Client, tool: str) -> dict[str, Any]:
    result = await client.call_tool(tool, {})
    assert not result.is_error, result
    return dict(result.structured_content or {})


@asynccontextmanager
async def calling(url: str, mode: str) -> AsyncIterator[Call]:
    async with Peer().connected(url, mode) as client:
        yield partial(told, client)


async def notification(url: str, mode: str) -> None:
    peer = Peer()
    async with peer.connected(url, mode) as client:
        if mode == "legacy":
            for uri in ALL_URIS:
                await client.subscribe_resource(uri)
            await all_announced(partial(peer.announce, url), peer.heard)
            return
        async with client.listen(resource_subscriptions=sorted(ALL_URIS)) as stream, anyio.create_task_group() as tasks:

            async def read() -> None:
                async for event in stream:
                    peer.heard.append(str(getattr(event, "uri", "")))

            tasks.start_soon(read)
            await all_announced(partial(peer.announce, url), peer.heard)
            tasks.cancel_scope.cancel()


async def elicitation(url: str, mode: str) -> None:
    peer = Peer()
    async with peer.connected(url, mode) as client:
        for _ in range(10):
            answered = await told(client, "ask")
            assert answered["name"] == "ada", answered
            if answered["node"] != peer.asked[-1]:
                return
    raise AssertionError(f"the answer never met another node than {set(peer.asked)}")


async def main(url: str, mode: str, count: int) -> None:
    say(
        connections=await connections(partial(calling, url, mode), count),
        notification=await verdict(partial(notification, url, mode)),
        elicitation=await verdict(partial(elicitation, url, mode)) if mode == "auto" else "-",
    )


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), backend="trio")
