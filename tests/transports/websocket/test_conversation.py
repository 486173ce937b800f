"""What is said over a WebSocket: both eras, one message a frame, and what is wrong with one is answered."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.channel_server import channel_server, text
from tests.transports.http.harness import LEGACY, OLDER, serving
from tests.transports.websocket.harness import CLIENT, offering, open_door
from trio_mcp import Context, Extension, MCPServer
from trio_mcp.auth import AccessToken, BearerAuth, StaticTokenVerifier, require_scopes
from trio_mcp.auth.checks import Requirements, requirements
from trio_mcp.dispatch.call import Call
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY
from trio_mcp.sessions.directory import MemoryDirectory, Snapshot
from trio_mcp.transports.channel.channel import Channel

VERSIONS = (*OLDER, LEGACY)


@pytest.fixture
def mcp() -> MCPServer:
    mcp = channel_server()

    @mcp.tool
    async def broken() -> None:
        raise ZeroDivisionError

    @mcp.tool
    async def origin(ctx: Context) -> str | None:
        return ctx.headers["x-from"] if ctx.headers is not None else None

    return mcp


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_opened_and_serves(mcp: MCPServer, version: str) -> None:
    async with offering(mcp) as door:
        socket = await door.connect(headers=[("x-from", "there")])
        await socket.open(version)
        socket.start("tools/list", id="list")
        assert len((await socket.hear())["result"]["tools"]) == 5
        socket.call("origin")
        assert text(await socket.hear()) == "there"
        socket.start("tools/call", {"name": "after", "arguments": {"seconds": 0}, "_meta": {"progressToken": "p"}})
        assert (await socket.hear())["params"]["progressToken"] == "p"
        assert text(await socket.hear()) == "after 0"


@pytest.mark.requirement("ws-16")
@pytest.mark.parametrize("bad", ["{", "", "  ", "{}{}", '{"a":1}\n{"b":2}', "[" * 100_000, "\ufeff", "\ud800"])
async def test_what_is_no_json_is_answered_and_the_connection_goes_on(mcp: MCPServer, bad: str) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        socket.say(bad)
        answer = await socket.hear()
        assert (answer["error"]["code"], "id" in answer) == (-32700, False)
        socket.start("ping")
        assert (await socket.hear())["result"] == {}


@pytest.mark.requirement("ws-17")
@pytest.mark.parametrize("version", [None, *VERSIONS])
async def test_a_batch_exists_in_2025_03_26_only(mcp: MCPServer, version: str | None) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        if version is not None:
            await socket.open(version)
        socket.say([{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (1, 2)])
        answer = json.loads(await socket._from_app.receive())
        if version == "2025-03-26":
            assert {each["id"] for each in answer} == {1, 2}
        else:
            assert answer["error"]["code"] == -32600


@pytest.mark.requirement("ws-18")
async def test_the_handshake_of_mcp_is_as_on_stdio(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        socket.start("tools/list")
        assert (await socket.hear())["error"]["code"] == -32602
        socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT})
        assert (await socket.hear())["result"]["protocolVersion"] == LEGACY
        socket.call("after", seconds=0)
        assert text(await socket.hear()) == "after 0"
        socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT})
        assert (await socket.hear())["error"]["code"] == -32600


async def test_what_comes_before_initialize_is_answered_waits_for_that(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT}, id="open")
        socket.notify("notifications/initialized")
        socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT}, id="again")
        socket.call("after", seconds=0, id="call")
        answers = [await socket.hear() for _ in range(3)]
        assert [answer["id"] for answer in answers] == ["open", "again", "call"]
        assert ["result" in answer for answer in answers] == [True, False, True]


async def test_a_reply_to_nothing_is_noted(mcp: MCPServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with offering(mcp) as door:
        socket = await door.connect()
        for opened in (False, True):
            if opened:
                await socket.open()
            socket.say({"jsonrpc": "2.0", "id": 7, "result": {}})
            socket.start("ping")
            await socket.hear()
    assert [record.message for record in caplog.records].count("reply that nobody waits for") == 2


class RecordedLater(MemoryDirectory):
    """A directory that a new session waits for."""

    def __init__(self, recorded: trio.Event) -> None:
        super().__init__()
        self._recorded = recorded

    async def opened(self, session: Snapshot) -> None:
        await self._recorded.wait()


async def test_what_waits_for_initialize_is_in_the_account_of_the_node(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        account, directory = door.app.service.account, door.app.hub.directory
        for leaves in (True, False):
            let = trio.Event()
            door.app.hub.directory = RecordedLater(let)
            socket = await door.connect()
            before = account.used
            socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT})
            for _ in range(3):
                socket.start("ping", {"_meta": {"note": "x" * 10_000}})
            await wait_all_tasks_blocked()
            assert account.used - before > 30_000
            if leaves:
                socket.leave()
            else:
                let.set()
                for _ in range(4):
                    await socket.hear()
                socket.leave()
            await socket.finished.wait()
            assert account.used == before
        door.app.hub.directory = directory


async def test_a_flood_before_initialize_is_answered_ends_the_connection(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        door.app.hub.directory = RecordedLater(trio.Event())
        socket = await door.connect()
        socket.start("initialize", {"protocolVersion": LEGACY, **CLIENT})
        for _ in range(100):
            socket.start("ping")
        await wait_all_tasks_blocked()
        assert not socket.finished.is_set()
        socket.start("ping")
        await socket.finished.wait()
        assert socket.closed == (1008, "too many messages before initialize was answered")
        assert len(door.app.hub) == 0


@pytest.mark.requirement("ws-19")
async def test_both_eras_on_one_connection(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        socket.call_modern("after", seconds=3, id="m3")
        await socket.open()
        socket.call("after", seconds=2, id="l2")
        socket.call_modern("after", seconds=1, id="m1")
        answers = [await socket.hear() for _ in range(3)]
        assert [answer["id"] for answer in answers] == ["m1", "l2", "m3"]
        assert ["resultType" in answer["result"] for answer in answers] == [True, False, True]


@pytest.mark.requirement("ws-20")
@pytest.mark.parametrize("modern", [True, False])
async def test_a_cancelled_call_is_answered_with_silence(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        call = socket.call_modern if modern else socket.call
        doomed = call("after", seconds=50)
        await wait_all_tasks_blocked()
        socket.notify("notifications/cancelled", {"requestId": doomed})
        call("after", seconds=100, id="other")
        assert (await socket.hear())["id"] == "other"


@pytest.mark.requirement("ws-21")
async def test_a_subscription_ends_with_its_connection(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        stream = socket.start_modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert (await socket.hear(modern=True))["method"] == "notifications/subscriptions/acknowledged"
        socket.call_modern("grow")
        heard = [await socket.hear(modern=True) for _ in range(2)]
        (changed,) = (each for each in heard if "method" in each)
        assert changed["method"] == "notifications/tools/list_changed"
        assert changed["params"]["_meta"][SUBSCRIPTION_ID_KEY] == stream
        assert len(door.app.service.listen_calls) == 1
        socket.leave()
        await socket.finished.wait()
        assert not door.app.service.listen_calls


@pytest.mark.requirement("ws-22")
async def test_replies_that_nobody_waits_for_are_ignored(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        socket.say({"jsonrpc": "2.0", "id": 1, "result": {}})
        await socket.open()
        socket.call("size", id="call")
        asked = await socket.hear()
        assert asked["method"] == "elicitation/create"
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"size": 4}}}
        socket.say({**reply, "id": 99})
        socket.say(reply)
        socket.say(reply)
        assert text(await socket.hear()) == "4"
        socket.start("ping")
        assert (await socket.hear())["result"] == {}


@pytest.mark.requirement("ws-23")
@pytest.mark.parametrize("modern", [True, False])
async def test_an_id_in_flight_is_not_taken_again(mcp: MCPServer, autojump_clock: MockClock, modern: bool) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        call = socket.call_modern if modern else socket.call
        call("after", seconds=5, id="same")
        call("after", seconds=5, id="same")
        assert (await socket.hear())["error"]["code"] == -32600
        assert text(await socket.hear()) == "after 5"


@pytest.mark.requirement("ws-24")
@pytest.mark.parametrize("modern", [True, False])
async def test_more_calls_than_may_run_are_refused(mcp: MCPServer, autojump_clock: MockClock, modern: bool) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        call = socket.call_modern if modern else socket.call
        for number in range(101):
            call("after", seconds=5, id=number)
        refused = await socket.hear()
        assert (refused["id"], refused["error"]["code"]) == (100, -32600)
        assert {(await socket.hear())["id"] for _ in range(100)} == set(range(100))
        call("after", seconds=5, id="next")
        assert text(await socket.hear()) == "after 5"


@pytest.mark.requirement("ws-31")
async def test_a_handler_that_crashes_ends_its_call_alone(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.connect()
        await socket.open()
        socket.call("broken")
        assert (await socket.hear())["result"]["isError"]
        socket.call_modern("broken")
        assert (await socket.hear())["result"]["isError"]


async def test_a_large_request_is_counted_while_it_runs(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with offering(mcp) as door:
        socket, account = await door.connect(), door.app.service.account
        await socket.open()
        for call in (socket.call, socket.call_modern):
            call("after", seconds=5, padding="x" * 50_000)
            await wait_all_tasks_blocked()
            assert 50_000 < account.used < 70_000
            assert "error" not in await socket.hear()
            await wait_all_tasks_blocked()
            assert account.used == 0


@pytest.mark.parametrize("modern", [True, False])
async def test_what_a_token_may_not_do_is_refused_for_that_request(mcp: MCPServer, modern: bool) -> None:
    @mcp.tool(auth=require_scopes("write"))
    async def write() -> str:
        return "written"

    tokens = {"reader": AccessToken("c", subject="r"), "writer": AccessToken("c", subject="w", scopes=["write"])}
    auth = BearerAuth(StaticTokenVerifier(tokens), resource="http://127.0.0.1:8000/mcp")
    async with offering(mcp, auth=auth) as door:
        for who, may in (("reader", False), ("writer", True)):
            socket = await door.connect(headers=[("authorization", f"Bearer {who}")])
            await socket.open()
            (socket.call_modern if modern else socket.call)("write")
            answer = await socket.hear()
            assert ("result" in answer) == may
            assert may or "write needs write" in answer["error"]["message"]


@pytest.mark.parametrize("modern", [True, False])
async def test_what_a_method_of_an_extension_asks_for_one_call_is_judged_here_too(mcp: MCPServer, modern: bool) -> None:
    extension = Extension("com.example/echo")
    asked = requirements(require_scopes("write"), hide=False)

    async def guard(call: Call) -> tuple[Requirements, ...]:
        return (asked,) if call.params.get("word") == "guarded" else ()

    async def run(call: Call) -> dict[str, Any]:
        return {}

    extension.add_method("echo/say", run, declared_only=False, guard=guard)
    mcp.add_extension(extension)
    tokens = {"reader": AccessToken("c", subject="r"), "writer": AccessToken("c", subject="w", scopes=["write"])}
    auth = BearerAuth(StaticTokenVerifier(tokens), resource="http://127.0.0.1:8000/mcp")
    async with offering(mcp, auth=auth) as door:
        for who, word, may in (("reader", "open", True), ("reader", "guarded", False), ("writer", "guarded", True)):
            socket = await door.connect(headers=[("authorization", f"Bearer {who}")])
            await socket.open()
            (socket.start_modern if modern else socket.start)("echo/say", {"word": word})
            answer = await socket.hear()
            assert ("result" in answer) == may
            assert may or (answer["error"]["code"], "needs write" in answer["error"]["message"]) == (-32600, True)


@pytest.mark.requirement("ws-36")
async def test_no_http_request_names_its_session(mcp: MCPServer) -> None:
    async with serving(mcp, websocket=True) as wire, open_door(wire.app) as door:
        socket = await door.connect()
        await socket.open()
        (session,) = wire.app.hub.sessions
        assert session.bound
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
        exchange = wire.post(body, headers={"mcp-session-id": session.id})
        assert await exchange.head() == 404
        assert (await exchange.json())["error"]["data"]["reason"] == "unknown"


def test_stdio_and_websocket_share_the_conversation() -> None:
    """The rules of the eras are said once: neither transport decodes or routes by itself."""
    from trio_mcp.transports.stdio import server
    from trio_mcp.transports.websocket import connection

    for module in (server, connection):
        assert module.Channel is Channel
        assert not {"decode", "route", "respond"} & vars(module).keys()
