"""What waits in memory: large answers that are read, calls and bodies that wait for room, peers that are in the way."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from tests.transports.http.harness import BOTH, HOST, JSON, LEGACY, SessionClient, Wire, request, serving
from tests.transports.listener.harness import MemoryListener, RawClient, answers
from trio_mcp import Context, MCPServer
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.streams.account import CALL_WAIT_SECONDS, HARD, Account
from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.asgi import Message
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.listener import Limits, serve
from trio_mcp.types import ImageContent

PICTURE = 1_700_000
MIB = 1 << 20
LIMITS = Limits(write_seconds=20)


@pytest.fixture
def mcp() -> MCPServer:
    """Tools with large answers."""
    mcp = MCPServer("test")

    @mcp.tool
    async def screenshot(seconds: float = 0.6) -> ImageContent:
        await trio.sleep(seconds)
        return ImageContent.of(b"x" * PICTURE, "image/png")

    @mcp.tool
    async def text(size: int, ctx: Context) -> str:
        await ctx.info("begun")
        return "x" * size

    @mcp.tool
    async def plain(size: int) -> str:
        return "x" * size

    return mcp


Call = Callable[[Wire, str, dict[str, Any]], Awaitable[Any]]


async def legacy(wire: Wire, name: str, arguments: dict[str, Any]) -> Any:
    return await (await wire.open()).tool(name, **arguments).answer()


async def modern(wire: Wire, name: str, arguments: dict[str, Any]) -> Any:
    return await wire.modern().tool(name, **arguments).answer()


ERAS = pytest.mark.parametrize("call", [legacy, modern])


# Answers that are being read


async def together(session: SessionClient, count: int, name: str, **arguments: Any) -> list[Any]:
    """The same call so many times at once; its results, each read as fast as it comes."""
    exchanges = [session.tool(name, **arguments) for _ in range(count)]
    return [await exchange.result() for exchange in exchanges]


async def test_three_pictures_at_once_are_read_in_one_session(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        results = await together(session, 3, "screenshot")
        assert {len(result["content"][0]["data"]) for result in results} == {-(-PICTURE // 3) * 4}
        assert await session.start("ping").result() == {}


async def test_four_long_texts_with_progress_are_read_in_one_session(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        results = await together(session, 4, "text", size=3 * MIB)
        assert [len(result["content"][0]["text"]) for result in results] == [3 * MIB] * 4
        assert await session.start("ping").result() == {}


@ERAS
@pytest.mark.parametrize("tool", ["plain", "text"])
@pytest.mark.parametrize(("size", "taken"), [(MIB, True), (5 * MIB, False)])
async def test_an_answer_over_a_quarter_of_the_account_is_an_error_of_that_call_alone(
    mcp: MCPServer, call: Call, tool: str, size: int, taken: bool
) -> None:
    async with serving(mcp, account=Account(16 * MIB)) as wire:
        session = await wire.open()
        answer = await call(wire, tool, {"size": size})
        assert ("result" in answer) is taken
        if not taken:
            assert answer["error"]["code"] == -32603
            assert "no room" in answer["error"]["message"]
        assert (await session.tool("plain", size=1).result())["content"][0]["text"] == "x"


@ERAS
async def test_answers_of_calls_that_end_at_the_same_moment_count_for_each_other(
    mcp: MCPServer, call: Call, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    account, go, most = Account(MIB), trio.Event(), 0
    charge = account.charge

    def watched(count: int) -> None:
        nonlocal most
        charge(count)
        most = max(most, account.used)

    @mcp.tool
    async def wait(size: int) -> str:
        await go.wait()
        return "x" * size

    answers: list[Any] = []

    async def ask(wire: Wire) -> None:
        answers.append(await call(wire, "wait", {"size": 100_000}))

    monkeypatch.setattr(account, "charge", watched)
    async with serving(mcp, account=account) as wire, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(ask, wire)
        await wait_all_tasks_blocked()
        assert most < MIB / 2, "no answer is there yet"
        go.set()
    refused = ["no room" in each["error"]["message"] for each in answers if "error" in each]
    assert 0 < len(refused) < 40
    assert all(refused)
    assert most <= HARD * MIB + 128 * 1024, "beside pieces that are on their way"


# Calls wait


@ERAS
@pytest.mark.parametrize("seconds", [0, 2])
async def test_a_call_waits_for_room_before_its_handler_starts_and_others_do_not_wait_for_it(
    mcp: MCPServer, call: Call, seconds: float, autojump_clock: MockClock
) -> None:
    account = Account(MIB)
    started: list[float] = []

    @mcp.tool
    async def note() -> str:
        started.append(trio.current_time())
        return "noted"

    async with serving(mcp, account=account) as wire, trio.open_nursery() as nursery:
        session = await wire.open()
        account.charge(2 * MIB)
        answered: list[Any] = []

        async def ask() -> None:
            answered.append(await call(wire, "note", {}))

        nursery.start_soon(ask)
        await trio.sleep(seconds)
        await wait_all_tasks_blocked()
        assert started == []
        assert await session.start("ping").result() == {}
        assert [tool["name"] for tool in (await session.start("tools/list").result())["tools"]][-1] == "note"
        account.release(2 * MIB)
        await trio.sleep(1)
        assert len(started) == 1
        assert answered[0]["result"]["content"][0]["text"] == "noted"


@ERAS
async def test_a_call_that_found_no_room_for_a_minute_is_told_so(
    mcp: MCPServer, call: Call, autojump_clock: MockClock
) -> None:
    account = Account(MIB)
    async with serving(mcp, account=account) as wire:
        account.charge(2 * MIB)
        began = trio.current_time()
        answer = await call(wire, "plain", {"size": 1})
        assert "no memory left" in answer["error"]["message"]
        assert CALL_WAIT_SECONDS <= trio.current_time() - began < CALL_WAIT_SECONDS + 2


async def test_a_call_that_waits_for_room_can_be_cancelled(mcp: MCPServer, autojump_clock: MockClock) -> None:
    account = Account(MIB)
    async with serving(mcp, account=account) as wire:
        session = await wire.open()
        account.charge(2 * MIB)
        waiting = session.tool("plain", size=1, id="doomed")
        await wait_all_tasks_blocked()
        assert await session.notify("notifications/cancelled", {"requestId": "doomed"}) == 202
        assert (await waiting.error())["code"] == -32800


@ERAS
async def test_many_calls_with_large_arguments_are_all_answered(
    mcp: MCPServer, call: Call, autojump_clock: MockClock
) -> None:
    account = Account(MIB)

    @mcp.tool
    async def count(text: str) -> int:
        await trio.sleep(1)
        return len(text)

    answered: list[Any] = []
    async with serving(mcp, account=account) as wire:
        account.charge(2 * MIB)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answered.append(await call(wire, "count", {"text": "x" * 60_000}))

            for _ in range(50):
                nursery.start_soon(ask)
            await trio.sleep(5)
            assert account.used > 4 * MIB
            account.release(2 * MIB)
        assert [answer["result"]["content"][0]["text"] for answer in answered] == ["60000"] * 50
        await wait_all_tasks_blocked()
        assert account.used < 200 * 1024, "replays of short answers are left"


# What is kept


async def test_replays_of_many_sessions_stay_within_the_account_and_no_session_ends(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    account = Account(16 * MIB)
    async with serving(mcp, account=account) as wire:
        sessions = [await wire.open() for _ in range(20)]
        for session in sessions:
            for _ in range(4):
                assert "result" in await session.tool("text", size=450 * 1024).answer()
                assert account.used <= account.limit
        assert [await session.start("ping").result() for session in sessions] == [{}] * 20
        assert account.used > account.limit / 2, "replays are kept as long as there is room"
        for session in sessions:
            assert await session.delete().nothing() == 204
        await wait_all_tasks_blocked()
        assert account.used == 0


@ERAS
@pytest.mark.parametrize("tool", ["plain", "text", "screenshot"])
async def test_nothing_counts_when_everything_was_read_or_given_up(
    mcp: MCPServer, call: Call, tool: str, autojump_clock: MockClock
) -> None:
    account = Account()
    arguments: dict[str, Any] = {} if tool == "screenshot" else {"size": MIB}
    async with serving(mcp, account=account) as wire:
        assert "result" in await call(wire, tool, arguments)
        session = await wire.open()
        for exchange in (session.tool(tool, **arguments), wire.modern().tool(tool, **arguments)):
            await exchange.head()
            exchange.disconnect()
        await trio.sleep(5)
        for each in wire.app.hub.sessions:
            each.close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        assert account.used == 0


async def test_what_clients_may_miss_and_nobody_reads_keeps_nobody_waiting(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    account = Account(MIB)

    @mcp.tool
    async def talk(ctx: Context) -> str:
        for _ in range(400):
            await ctx.info("x" * 200)
        return "said"

    async with serving(mcp, account=account, json_response=True) as wire:
        for _ in range(10):
            session = await wire.open()
            assert "result" in await session.tool("talk").answer()
            assert account.used <= account.limit
        last = session.listen()
        assert "x" * 200 in json.dumps(await last.message()), "the latest are there still"
        last.disconnect()
        for each in wire.app.hub.sessions:
            each.close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        assert account.used == 0


@pytest.mark.parametrize("accept", [JSON, BOTH])
@pytest.mark.parametrize("leaves", [True, False])
async def test_answers_that_wait_for_the_rest_of_their_batch_count(
    mcp: MCPServer, accept: str, leaves: bool, autojump_clock: MockClock
) -> None:
    account = Account()
    sizes = [MIB, MIB]
    batch = [request(n, "tools/call", {"name": "plain", "arguments": {"size": size}}) for n, size in enumerate(sizes)]
    batch.append(request(9, "tools/call", {"name": "screenshot", "arguments": {"seconds": 30}}))
    async with serving(mcp, account=account) as wire:
        session = await wire.open("2025-03-26")
        exchange = session.batch(*batch, headers={"accept": accept})
        await trio.sleep(5)
        assert 2 * MIB < account.used < 3 * MIB
        if leaves:
            exchange.disconnect()
            await trio.sleep(50)
        elif accept == JSON:
            assert len(await exchange.json()) == 3
        else:
            assert len(await exchange.messages()) == 3
        assert await session.delete().nothing() == 204
        await wait_all_tasks_blocked()
        assert account.used == 0


async def test_a_call_whose_exchange_is_cancelled_by_an_app_around_ours_counts_no_longer_than_its_session(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    account = Account()
    app = mcp.http_app(account=account)

    @mcp.tool
    async def late(ctx: Context) -> str:
        await trio.sleep(1)
        await ctx.info("begun")
        return "x" * MIB

    async def hurried(scope: Any, receive: Any, send: Any) -> None:
        with trio.move_on_after(0.1):
            await app(scope, receive, send)

    async with app.running(), asgi_client(hurried) as client:
        session = await Wire(app, client).open()
        session.tool("late")
        await trio.sleep(5)
        assert account.used > MIB
        app.hub.sessions[0].close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        assert account.used == 0


# On the wire


class Node:
    """The app behind our own listener, on streams that are only as fast as their readers."""

    def __init__(self, account: Account, listener: MemoryListener, wire: Wire) -> None:
        self.account = account
        self.wire = wire
        self._listener = listener

    def connect(self) -> RawClient:
        """Each write waits until it is read."""
        ours, theirs = lockstep_stream_pair()
        self._listener.offer(theirs)
        return RawClient(ours)

    async def call(self, session: SessionClient, id: int, name: str, **arguments: Any) -> RawClient:
        """A connection that has sent one call and read nothing."""
        client = self.connect()
        body = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        await client.say(post(json.dumps(body).encode(), session.id))
        return client


def post(body: bytes, session: str, length: int | None = None) -> bytes:
    lines = [
        *("POST /mcp HTTP/1.1", f"Host: {HOST}", "Connection: close", f"Content-Type: {JSON}", f"Accept: {BOTH}"),
        *(f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {LEGACY}"),
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def node(mcp: MCPServer, limit: int) -> AsyncIterator[Node]:
    account = Account(limit)
    app = mcp.http_app(account=account)
    listener = MemoryListener()
    with trio.fail_after(10_000):
        async with app.running(), asgi_client(app) as client, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve(app, [listener], limits=LIMITS, account=account))
            yield Node(account, listener, Wire(app, client))
            nursery.cancel_scope.cancel("the test is over")


async def read_at(client: RawClient, rate: int) -> bytes:
    """Everything until the server closes, `rate` bytes a second."""
    heard = bytearray()
    while True:
        try:
            data = await client.stream.receive_some(rate)
        except trio.BrokenResourceError:
            return bytes(heard)
        if not data:
            return bytes(heard)
        heard += data
        await trio.sleep(len(data) / rate)


async def test_slow_readers_that_read_get_everything_and_new_calls_wait_for_them(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with node(mcp, 20 * MIB) as served:
        sessions = [await served.wire.open() for _ in range(5)]
        heard: list[bytes] = []
        async with trio.open_nursery() as nursery:

            async def read(client: RawClient) -> None:
                heard.append(await read_at(client, 100_000))

            for session in sessions:
                for number in range(2):
                    nursery.start_soon(read, await served.call(session, number, "screenshot"))
            await trio.sleep(2)
            assert served.account.short
            late = trio.current_time()
            assert "result" in await sessions[0].tool("plain", size=1).answer()
            assert trio.current_time() - late > 5
        assert all(b'"result"' in answers(each)[0].body for each in heard)
        assert len(heard) == 10
        assert [await session.start("ping").result() for session in sessions] == [{}] * 5


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize("tool", ["screenshot", "plain"])
async def test_readers_that_hardly_read_are_gone_and_everybody_else_is_served(
    mcp: MCPServer, autojump_clock: MockClock, tool: str, rate: int
) -> None:
    async with node(mcp, 12 * MIB) as served:
        other = await served.wire.open()
        arguments: dict[str, Any] = {} if tool == "screenshot" else {"size": MIB}
        async with trio.open_nursery() as nursery:
            for number in range(8):
                client = await served.call(await served.wire.open(), number, tool, **arguments)
                if rate:
                    nursery.start_soon(read_at, client, rate)
            await trio.sleep(2)
            used = served.account.used
            assert used > served.account.limit
            assert "result" in await other.tool("plain", size=1).answer()
            assert served.account.used < served.account.limit
            nursery.cancel_scope.cancel("the others may go on")


async def test_bodies_that_never_end_keep_nobody_waiting(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with node(mcp, 16 * MIB) as served:
        session = await served.wire.open()
        for _ in range(50):
            await served.connect().say(post(b"x" * 50_000, session.id, 4 * MIB))
        assert "result" in await session.tool("plain", size=1).answer()
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"long": "x" * MIB}}
        client = served.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, post(json.dumps(body).encode(), session.id))
            assert b'"result"' in answers(await client.hear_all())[0].body
        assert served.account.used < 8 * MIB
        await trio.sleep(200)
        assert served.account.used == 0


async def test_a_body_that_is_sent_slowly_is_taken_while_there_is_room(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with node(mcp, 16 * MIB) as served:
        session = await served.wire.open()
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
        client = served.connect()
        await client.say(post(b"", session.id, len(body)))
        for at in range(len(body)):
            await client.say(body[at : at + 1])
            await trio.sleep(1)
        assert b'"result"' in answers(await client.hear_all())[0].body


async def test_a_body_in_the_smallest_pieces_takes_little_more_than_its_bytes() -> None:
    size = 128 * 1024
    left = size

    async def receive() -> Message:
        nonlocal left
        left -= 2
        # New ones each time: as a server makes them of what it has received.
        return {"type": "http.request", "body": bytes([left & 255, 1]), "more_body": left > 0}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is answered")

    scope = {"method": "POST", "path": "/mcp", "headers": [(b"content-length", b"%d" % size)]}
    exchange = HttpExchange.over_asgi(scope, receive, send)
    tracemalloc.start()
    try:
        assert len(await exchange.body(size)) == size
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
