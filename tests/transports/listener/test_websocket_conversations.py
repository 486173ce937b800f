"""The whole way, from frames to handlers: a client that stops reading, or reads next to nothing, while a handler floods it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from tests.transports.listener.frames import CLOSE, frames, handshake, text
from tests.transports.listener.harness import RawClient, Server, serving
from trio_mcp import Context, MCPServer
from trio_mcp.defaults import MAX_SESSION_BYTES
from trio_mcp.transports.listener import Limits

LIMITS = Limits(websockets=True, ping_seconds=10_000)
KIB = 1024
FLOOD = 1000
"""Messages of 10 KiB."""


def request(number: int, method: str, **params: object) -> bytes:
    return text(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))


OPENING = request(
    1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "t", "version": "1"}
)


def server() -> MCPServer:
    mcp = MCPServer("conversations")

    @mcp.tool
    async def flood(ctx: Context) -> str:
        for _ in range(FLOOD):
            await ctx.info("x" * 10 * KIB)
        return "done"

    @mcp.tool
    async def quick() -> str:
        return "quick"

    return mcp


async def opened(server: Server) -> trio.abc.Stream:
    """A connection with a session; each byte that is written to it waits until it is read."""
    ours, theirs = lockstep_stream_pair()
    server.accept(theirs)
    heard = b""
    await ours.send_all(handshake("GET /mcp HTTP/1.1", Host="localhost"))
    while not heard.endswith(b"\r\n\r\n"):
        heard += await ours.receive_some()
    await ours.send_all(OPENING)
    while b'"serverInfo"' not in heard:
        heard += await ours.receive_some()
    return ours


async def called(client: RawClient, number: int) -> dict[str, Any]:
    await client.say(request(number, "tools/call", name="quick", arguments={}))
    (answer,) = frames(await client.hear())
    found: dict[str, Any] = json.loads(answer.payload)
    return found


@pytest.mark.requirement("ws-25")
async def test_a_client_that_stops_reading_amid_a_flood_is_gone_and_others_notice_nothing(
    autojump_clock: MockClock,
) -> None:
    app = server().http_app(websocket=True)
    account = app.service.account
    async with app.running(), serving(app, LIMITS, account) as listening:
        stalled = await opened(listening)
        other = listening.connect()
        await other.say(handshake("GET /mcp HTTP/1.1", Host="localhost"))
        await other.hear()
        await other.say(OPENING)
        await other.hear()
        began = trio.current_time()
        await stalled.send_all(request(2, "tools/call", name="flood", arguments={}))
        await wait_all_tasks_blocked()
        assert 0 < account.used <= 2 * MAX_SESSION_BYTES
        for number in range(2, 50):
            assert (await called(other, number))["result"]["content"][0]["text"] == "quick"
        assert trio.current_time() == began, "nobody waited for it"
        assert len(app.hub) == 2
        await trio.sleep(LIMITS.write_seconds + 1)
        await wait_all_tasks_blocked()
        assert len(app.hub) == 1
        assert account.used == 0
        assert (await called(other, 50))["result"]
        await stalled.aclose()


@pytest.mark.requirement("ws-26")
async def test_a_client_that_reads_slowly_lives_on_and_gets_its_answer(autojump_clock: MockClock) -> None:
    """What it can miss is dropped: it gets the last messages, told how many it has missed, and the answer."""
    app = server().http_app(websocket=True)
    account = app.service.account
    async with app.running(), serving(app, LIMITS, account) as listening:
        slow = await opened(listening)
        await slow.send_all(request(2, "tools/call", name="flood", arguments={}))
        heard = b""
        began = trio.current_time()
        while b'"done"' not in heard:
            await trio.sleep(LIMITS.write_seconds / 2)
            heard += await slow.receive_some(16 * KIB)
            assert account.used <= 2 * MAX_SESSION_BYTES
        assert trio.current_time() - began > 10 * LIMITS.write_seconds
        answers = [json.loads(each.payload) for each in frames(heard)]
        assert answers[-1]["id"] == 2
        assert len(answers) < FLOOD
        await slow.aclose()
        await wait_all_tasks_blocked()
        assert account.used == 0


async def test_a_served_app_that_ends_says_that_it_is_going_away(autojump_clock: MockClock) -> None:
    app = server().http_app(websocket=True)
    async with app.running(), serving(app, LIMITS) as listening:
        client = await opened(listening)
        async with trio.open_nursery() as nursery:
            assert app.websockets is not None
            nursery.start_soon(app.websockets.end_all)
            heard = b""
            with suppress(trio.BrokenResourceError):
                while data := await client.receive_some():
                    heard += data
        [last] = frames(heard)
        assert (last.opcode, last.code) == (CLOSE, 1001)
