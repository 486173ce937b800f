"""stdio under load: many requests at once, large answers, clients that read late or slowly, messages that are too long."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import (
    MockClock,
    lockstep_stream_one_way_pair,
    memory_stream_one_way_pair,
    wait_all_tasks_blocked,
)

from trio_mcp import Context, MCPServer
from trio_mcp.dispatch.options import Options
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.streams.account import Account
from trio_mcp.transports.running import running
from trio_mcp.transports.stdio import StdioServer
from trio_mcp.transports.stdio.lines import LineReader

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
MIB = 1 << 20
MAX_IN_FLIGHT = 5

ERAS = pytest.mark.parametrize("modern", [False, True])


class Size(BaseModel):
    size: int


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test")

    @mcp.tool
    async def plain(size: int, padding: str = "") -> str:
        return "x" * size

    @mcp.tool
    async def after(seconds: float, padding: str = "") -> str:
        await trio.sleep(seconds)
        return "done"

    @mcp.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Size?", Size)
        return str(answer.data.size) if answer.data else answer.action

    return mcp


class StdioClient:
    """The other end: stdin is taken without end, stdout is only as fast as it is read."""

    def __init__(self, stdin: trio.abc.SendStream, stdout: trio.abc.ReceiveStream, account: Account) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.account = account
        self.ended = trio.Event()
        self._lines = LineReader(stdout, 1 << 28)

    async def say(self, *messages: Any) -> None:
        lines = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
        await self.stdin.send_all(b"\n".join(lines) + b"\n")

    async def hear(self) -> Any:
        line = await self._lines.next_line()
        return None if line is None else json.loads(line)

    async def open(self, version: str = LEGACY) -> None:
        capabilities: dict[str, Any] = {"elicitation": {}}
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
        await self.say({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params})
        assert (await self.hear())["id"] == "open"
        await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    @staticmethod
    def call(id: int | str, name: str, *, modern: bool = False, **arguments: Any) -> dict[str, Any]:
        params: dict[str, Any] = {"name": name, "arguments": arguments}
        if modern:
            params["_meta"] = {PROTOCOL_VERSION_KEY: MODERN, CLIENT_CAPABILITIES_KEY: {}}
        return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}

    @staticmethod
    def cancel(id: int | str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}


@asynccontextmanager
async def piped(mcp: MCPServer, limit: int = 256 * MIB, **options: Any) -> AsyncIterator[StdioClient]:
    """Serve for the length of the block; each write to stdout waits until it was read."""
    their_in, our_in = memory_stream_one_way_pair()
    our_out, their_out = lockstep_stream_one_way_pair()
    account = Account(limit)
    service = mcp.service(Options(max_in_flight=MAX_IN_FLIGHT), transport="pipe", account=account)
    hub = mcp.hub(service)
    client = StdioClient(their_in, their_out, account)
    with trio.fail_after(100_000):
        async with running(mcp.lifespan, service, hub), trio.open_nursery() as nursery:

            async def serve() -> None:
                await StdioServer(service, hub, **options).serve(our_in, our_out)
                await our_out.aclose()
                client.ended.set()

            nursery.start_soon(serve)  # noqa: ASYNC113
            yield client
            nursery.cancel_scope.cancel("the test is over")


@ERAS
async def test_two_answers_of_ten_megabytes_arrive(mcp: MCPServer, autojump_clock: MockClock, modern: bool) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(*(client.call(n, "plain", modern=modern, size=10 * MIB) for n in range(2)))
        for _ in range(2):
            assert len((await client.hear())["result"]["content"][0]["text"]) == 10 * MIB
        await wait_all_tasks_blocked()
        assert client.account.used == 0


@ERAS
async def test_an_answer_takes_as_long_as_its_reader_as_long_as_bytes_flow(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(client.call(1, "plain", modern=modern, size=MIB))
        heard = bytearray()
        while not heard.endswith(b"\n"):
            await trio.sleep(15)
            heard += await client.stdout.receive_some(1 << 20)
        assert len(json.loads(bytes(heard))["result"]["content"][0]["text"]) == MIB
        assert trio.current_time() > 1_000


@ERAS
async def test_an_answer_over_a_quarter_of_the_account_is_an_error_of_that_call_alone(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp, 16 * MIB) as client:
        await client.open()
        await client.say(client.call(1, "plain", modern=modern, size=5 * MIB))
        assert "no room" in (await client.hear())["error"]["message"]
        await client.say(client.call(2, "plain", modern=modern, size=5))
        assert "result" in await client.hear()


@ERAS
async def test_requests_beyond_those_that_run_wait_and_each_is_answered_to_a_reader_that_is_late(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(*(client.call(n, "plain", modern=modern, size=10) for n in range(2_000)))
        await trio.sleep(3)
        assert sorted([(await client.hear())["id"] for _ in range(2_000)]) == list(range(2_000))
        await wait_all_tasks_blocked()
        assert client.account.used == 0


@ERAS
async def test_they_start_in_their_order_when_others_end(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp) as client:
        await client.open()
        began = trio.current_time()
        await client.say(*(client.call(n, "after", modern=modern, seconds=10) for n in range(2 * MAX_IN_FLIGHT + 1)))
        heard = [((await client.hear())["id"], trio.current_time() - began) for _ in range(2 * MAX_IN_FLIGHT + 1)]
        assert sorted(n for n, at in heard if at < 15) == list(range(MAX_IN_FLIGHT))
        assert heard[-1][0] == 2 * MAX_IN_FLIGHT
        assert 29 < heard[-1][1] < 31


@ERAS
async def test_a_request_that_waits_can_be_cancelled(mcp: MCPServer, autojump_clock: MockClock, modern: bool) -> None:
    async with piped(mcp) as client:
        await client.open()
        running_now = [client.call(n, "after", modern=modern, seconds=10) for n in range(MAX_IN_FLIGHT)]
        await client.say(*running_now, client.call("no", "after", modern=modern, seconds=0))
        await client.say(client.call("yes", "plain", modern=modern, size=1), client.cancel("no"))
        heard = [(await client.hear())["id"] for _ in range(MAX_IN_FLIGHT + 1)]
        assert set(heard) == {*range(MAX_IN_FLIGHT), "yes"}


async def test_a_batch_with_a_request_that_was_cancelled_while_it_waited_is_answered_without_it(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp) as client:
        params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await client.say({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params})
        await client.hear()
        batch = [client.call(n, "after", seconds=10) for n in range(MAX_IN_FLIGHT + 2)]
        await client.say(batch, client.cancel(MAX_IN_FLIGHT))
        assert {answer["id"] for answer in await client.hear()} == {*range(MAX_IN_FLIGHT), MAX_IN_FLIGHT + 1}


async def test_answers_that_wait_for_the_rest_of_their_batch_count(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await client.say({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params})
        await client.hear()
        await client.say([client.call(1, "plain", size=MIB), client.call(2, "after", seconds=10)])
        await trio.sleep(5)
        assert client.account.used > MIB
        assert len(await client.hear()) == 2
        await wait_all_tasks_blocked()
        assert client.account.used == 0


async def test_a_batch_whose_answers_fill_the_memory_is_answered_at_once(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp, 8 * MIB) as client:
        await client.open("2025-03-26")
        began = trio.current_time()
        await client.say([client.call(n, "plain", size=MIB) for n in range(20)])
        heard = await client.hear()
        assert trio.current_time() == began
        assert len(heard) == 20
        assert 3 <= sum("result" in message for message in heard) < 8
        await client.say([client.call(1, "plain", size=MIB)])
        assert "result" in (await client.hear())[0]
        await wait_all_tasks_blocked()
        assert client.account.used == 0


async def test_a_batch_that_is_never_completed_is_counted_no_more_at_the_end(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp) as client:
        await client.open("2025-03-26")
        await client.say([client.call(1, "plain", size=MIB), client.call(2, "after", seconds=1_000)])
        await wait_all_tasks_blocked()
        assert client.account.used > MIB
        await client.stdin.aclose()
        await client.ended.wait()
        assert client.account.used == 0


async def test_calls_do_not_wait_for_room_that_requests_behind_them_hold(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp, 4 * MIB, max_message=4 * MIB) as client:
        await client.open()
        paddings = [0] * 2 * MAX_IN_FLIGHT + [900_000, 3_900_000]
        await client.say(*(client.call(n, "after", seconds=1, padding="x" * size) for n, size in enumerate(paddings)))
        began = trio.current_time()
        for _ in paddings:
            assert "result" in await client.hear()
        assert trio.current_time() - began <= 5


async def test_replies_pass_the_requests_that_wait(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(*(client.call(f"c{n}", "ask") for n in range(3 * MAX_IN_FLIGHT)))
        answered = 0
        while answered < 3 * MAX_IN_FLIGHT:
            message = await client.hear()
            if message.get("method") == "elicitation/create":
                result = {"action": "accept", "content": {"size": 1}}
                await client.say({"jsonrpc": "2.0", "id": message["id"], "result": result})
            else:
                assert message["result"]["content"][0]["text"] == "1"
                answered += 1


async def test_reading_stops_when_what_waits_has_used_up_its_share_and_that_is_said_once(
    mcp: MCPServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with piped(mcp, 4 * MIB, max_message=MIB) as client:
        await client.open()
        await client.say(*(client.call(n, "plain", size=150_000) for n in range(200)))
        await client.say(*(client.call(n, "plain", size=1, padding="x" * 10_000) for n in range(200, 400)))
        await wait_all_tasks_blocked()
        assert client.account.used < client.account.limit
        await trio.sleep(3)
        heard = [await client.hear() for _ in range(400)]
        assert sorted(answer["id"] for answer in heard) == list(range(400))
        assert all("result" in answer for answer in heard)
        said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert said == ["the client sends requests and does not read the answers; waiting for it"]
        await wait_all_tasks_blocked()
        assert client.account.used == 0


@pytest.mark.parametrize("line", [b"no json", b'{"jsonrpc":"2.0","id":1,"method":"ping"}'])
async def test_what_is_answered_at_once_waits_too_for_a_client_that_reads_nothing(
    mcp: MCPServer, autojump_clock: MockClock, line: bytes
) -> None:
    async with piped(mcp, MIB) as client:
        await client.say(*[line] * 5_000)
        await wait_all_tasks_blocked()
        assert client.account.used < client.account.limit
        for _ in range(5_000):
            assert await client.hear()
        await wait_all_tasks_blocked()
        assert client.account.used == 0


async def test_reading_goes_on_when_memory_is_short_no_longer(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(*(client.call(n, "after", seconds=1_000) for n in range(MAX_IN_FLIGHT)))
        await client.say(client.call("waits", "plain", size=1))
        await wait_all_tasks_blocked()
        client.account.charge(300 * MIB)
        # Taken, and then no more is read.
        await client.say(client.call("last", "plain", size=1))
        await trio.sleep(5)
        client.account.release(300 * MIB)
        await client.say(client.cancel(0))
        began = trio.current_time()
        assert [(await client.hear())["id"] for _ in range(2)] == ["waits", "last"]
        assert trio.current_time() - began < 5


async def test_a_reply_is_found_behind_more_requests_than_there_is_room_for(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp, 4 * MIB, max_message=MIB) as client:
        await client.open()
        await client.say(*(client.call(f"ask{n}", "ask") for n in range(MAX_IN_FLIGHT)))
        questions = [(await client.hear())["id"] for _ in range(MAX_IN_FLIGHT)]
        await client.say(*(client.call(n, "plain", size=1, padding="x" * 100_000) for n in range(20)))
        result = {"action": "accept", "content": {"size": 1}}
        await client.say(*({"jsonrpc": "2.0", "id": each, "result": result} for each in questions))
        began = trio.current_time()
        heard = [await client.hear() for _ in range(20 + MAX_IN_FLIGHT)]
        assert trio.current_time() - began < 5
        refused = [message["id"] for message in heard if "error" in message]
        assert 0 < len(refused) < 15
        assert refused == list(range(20))[-len(refused) :]
        await wait_all_tasks_blocked()
        assert client.account.used == 0


async def test_a_client_that_reads_nothing_is_given_up_after_the_write_deadline(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    async with piped(mcp) as client:
        await client.open()
        began = trio.current_time()
        await client.say(*(client.call(n, "plain", size=10) for n in range(100)))
        await client.ended.wait()
        assert trio.current_time() - began == 20
        assert client.account.used == 0


@ERAS
async def test_at_the_end_of_stdin_what_waits_is_answered_as_long_as_it_goes_on(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.say(*(client.call(n, "after", modern=modern, seconds=0.5) for n in range(10 * MAX_IN_FLIGHT)))
        await client.stdin.aclose()
        heard = []
        while (message := await client.hear()) is not None:
            heard.append("result" in message)
        assert heard == [True] * 10 * MAX_IN_FLIGHT


# Messages that are too long


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("last", [True, False])
async def test_a_request_that_is_too_long_is_answered_with_its_id(mcp: MCPServer, opened: bool, last: bool) -> None:
    async with piped(mcp, max_message=1_000) as client:
        if opened:
            await client.open()
        long = client.call("long", "plain", size=1, padding="x" * 100_000)
        await client.say(long if last else {"id": long.pop("id"), **long})
        answer = await client.hear()
        assert (answer["id"], answer["error"]["code"]) == ("long", -32600)
        assert "at most 1000 bytes" in answer["error"]["message"]


@pytest.mark.parametrize(
    "message", [b'{"jsonrpc":"2.0","method":"n","params":"%s"}', b'["%s"]', b"%s", b'{"id":1,"x":"%s']
)
async def test_what_is_too_long_and_has_no_readable_id_is_an_error_without_one(mcp: MCPServer, message: bytes) -> None:
    async with piped(mcp, max_message=1_000) as client:
        await client.say(message % (b"x" * 100_000))
        answer = await client.hear()
        assert answer["error"]["code"] == -32700
        assert "id" not in answer


async def test_an_answer_of_the_client_that_is_too_long_ends_its_question(mcp: MCPServer) -> None:
    async with piped(mcp, max_message=1_000) as client:
        await client.open()
        await client.say(client.call("c", "ask"))
        question = await client.hear()
        content = {"action": "accept", "content": {"size": 1, "padding": "x" * 100_000}}
        await client.say({"jsonrpc": "2.0", "id": question["id"], "result": content})
        answer = await client.hear()
        assert answer["id"] == "c"
        assert "at most 1000 bytes" in json.dumps(answer)
