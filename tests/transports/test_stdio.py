"""stdio over memory streams: one pipe, both eras at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    memory_stream_one_way_pair,
    wait_all_tasks_blocked,
)

from tests.oracle import Oracle
from tests.rig.waiting import PATIENCE
from tests.transports.channel_server import channel_server, text
from trio_mcp import Context, Extension, MCPServer
from trio_mcp.auth import BearerAuth, StaticTokenVerifier, get_access_token, require_roles
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY, SUBSCRIPTION_ID_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.transports.running import running
from trio_mcp.transports.stdio import StdioServer
from trio_mcp.transports.stdio.lines import LineReader

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY]


@pytest.fixture
def mcp() -> MCPServer:
    return channel_server()


class StdioClient:
    """The other end of the pipes; every line it reads is judged by the official types."""

    def __init__(self, stdin: MemorySendStream, stdout: MemoryReceiveStream) -> None:
        self.stdin = stdin
        self.ids = count(1)
        self.ended = trio.Event()
        self._lines = LineReader(stdout, 1 << 24)
        self._legacy = Oracle(LEGACY)
        self._modern = Oracle(MODERN)
        self._modern_ids: set[int | str] = set()

    async def say(self, message: Any) -> None:
        line = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        await self.stdin.send_all(line)

    async def hear(self, *, modern: bool = False) -> Any:
        """The next message, None at the end; `modern` says whose a notification is."""
        line = await self._lines.next_line()
        if line is None:
            return None
        message = json.loads(line)
        answers_modern = isinstance(message, dict) and "method" not in message and message.get("id") in self._modern_ids
        return (self._modern if modern or answers_modern else self._legacy).heard(message)

    async def rest(self) -> list[Any]:
        """Everything up to the end."""
        found = []
        while (message := await self.hear()) is not None:
            found.append(message)
        return found

    async def start(self, method: str, params: dict[str, Any] | None = None, id: int | str | None = None) -> int | str:
        """Send a legacy request; its id."""
        chosen = next(self.ids) if id is None else id
        self._legacy.asked(chosen, method)
        await self.say({"jsonrpc": "2.0", "id": chosen, "method": method, "params": params or {}})
        return chosen

    async def start_modern(
        self, method: str, params: dict[str, Any] | None = None, id: int | str | None = None, **meta: Any
    ) -> int | str:
        """Send a modern request; its id."""
        chosen = next(self.ids) if id is None else id
        self._modern.asked(chosen, method)
        self._modern_ids.add(chosen)
        full = {PROTOCOL_VERSION_KEY: MODERN, CLIENT_CAPABILITIES_KEY: {"elicitation": {}}, **meta}
        await self.say({"jsonrpc": "2.0", "id": chosen, "method": method, "params": {**(params or {}), "_meta": full}})
        return chosen

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        await self.say({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def open(self, version: str = LEGACY) -> None:
        """Begin the process's one session."""
        self._legacy = Oracle(version)
        offer = {
            "protocolVersion": version,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "t", "version": "1"},
        }
        await self.start("initialize", offer, id="open")
        assert (await self.hear())["result"]["protocolVersion"] == version
        await self.notify("notifications/initialized")

    def batch(self, *elements: Any) -> list[Any]:
        for element in elements:
            if isinstance(element, dict) and "method" in element and "id" in element:
                self._legacy.asked(element["id"], element["method"])
        return list(elements)


@asynccontextmanager
async def piped(mcp: MCPServer, **options: Any) -> AsyncIterator[StdioClient]:
    """Serve on memory streams for the length of the block."""
    their_in, our_in = memory_stream_one_way_pair()
    our_out, their_out = memory_stream_one_way_pair()
    service = mcp.service(transport="pipe")
    hub = mcp.hub(service)
    client = StdioClient(their_in, their_out)
    with trio.fail_after(100_000 if isinstance(trio.lowlevel.current_clock(), MockClock) else PATIENCE):
        async with running(mcp.lifespan, service, hub), trio.open_nursery() as nursery:

            async def serve() -> None:
                await StdioServer(service, hub, **options).serve(our_in, our_out)
                await our_out.aclose()
                client.ended.set()

            nursery.start_soon(serve)  # noqa: ASYNC113
            yield client
            nursery.cancel_scope.cancel("the test is over")


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.mark.requirement("IO1", "I1")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_opened_and_serves(mcp: MCPServer, version: str) -> None:
    async with piped(mcp) as client:
        await client.open(version)
        await client.start("tools/call", tool("after", seconds=0), id="a")
        assert text(await client.hear()) == "after 0"
        await client.start("ping")
        assert (await client.hear())["result"] == {}


@pytest.mark.requirement("IO6", "IO9", "P7")
async def test_a_modern_client_needs_no_handshake_and_no_headers(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.start_modern("server/discover")
        assert MODERN in (await client.hear())["result"]["supportedVersions"]
        await client.start_modern("tools/call", tool("after", seconds=0))
        assert text(await client.hear()) == "after 0"


@pytest.mark.requirement("IO7", "IO9")
async def test_both_eras_interleave_on_one_pipe(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.start_modern("tools/call", tool("after", seconds=3), id="m3")
        await client.open()
        await client.start("tools/call", tool("after", seconds=2), id="l2")
        await client.start_modern("tools/call", tool("after", seconds=1), id="m1")
        answers = [await client.hear() for _ in range(3)]
        assert [answer["id"] for answer in answers] == ["m1", "l2", "m3"]
        assert ["resultType" in answer["result"] for answer in answers] == [True, False, True]


@pytest.mark.requirement("IO7", "G1")
async def test_progress_names_its_token(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        for token in ("x", 7):
            await client.start_modern("tools/call", tool("after", seconds=0), progressToken=token)
            assert (await client.hear(modern=True))["params"]["progressToken"] == token
            assert text(await client.hear()) == "after 0"


@pytest.mark.requirement("IO6")
async def test_what_a_modern_request_lacks_is_told(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        for meta, code in (
            ({PROTOCOL_VERSION_KEY: MODERN}, -32602),
            ({PROTOCOL_VERSION_KEY: "2099-01-01", CLIENT_CAPABILITIES_KEY: {}}, -32022),
            ({PROTOCOL_VERSION_KEY: 5, CLIENT_CAPABILITIES_KEY: {}}, -32602),
        ):
            await client.say({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
            answer = await client.hear()
            assert (answer["id"], answer["error"]["code"]) == (1, code)
        await client.start_modern("initialize")
        assert (await client.hear())["error"]["code"] == -32601


@pytest.mark.requirement("IO6", "S4")
@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
async def test_before_a_session_a_request_without_meta_is_invalid_params(mcp: MCPServer, method: str) -> None:
    async with piped(mcp) as client:
        await client.start(method)
        assert (await client.hear())["error"]["code"] == -32602
        await client.start("ping")
        assert (await client.hear())["result"] == {}


@pytest.mark.requirement("S8")
async def test_a_second_initialize_is_refused(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.open()
        offer = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await client.start("initialize", offer)
        assert (await client.hear())["error"]["code"] == -32600


@pytest.mark.requirement("IO5", "J7", "J8")
async def test_a_batch_on_2025_03_26_is_answered_on_one_line(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open("2025-03-26")
        slow = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool("after", seconds=5)}
        quick = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await client.say(client.batch(slow, quick, note, 17))
        await client.start("ping", id="between")
        assert (await client.hear())["id"] == "between"
        answers = await client.hear()
        assert {answer.get("id") for answer in answers} == {1, 2, None}
        await client.say(client.batch(note, note))
        await client.start("ping", id="after")
        assert (await client.hear())["id"] == "after"


@pytest.mark.requirement("IO5", "J9", "J10")
@pytest.mark.parametrize("version", [None, *VERSIONS])
async def test_every_other_batch_is_one_invalid_request(mcp: MCPServer, version: str | None) -> None:
    async with piped(mcp) as client:
        if version is not None:
            await client.open(version)
        bad = "initialize" if version == "2025-03-26" else "ping"
        for batch in ([], [{"jsonrpc": "2.0", "id": 1, "method": bad}]):
            await client.say(batch)
            answer = await client.hear()
            assert answer["error"]["code"] == -32600
            assert "id" not in answer


@pytest.mark.requirement("IO8", "C1", "gap-cancellation")
@pytest.mark.parametrize("modern", [True, False])
async def test_a_cancelled_request_is_answered_with_silence(
    mcp: MCPServer, autojump_clock: MockClock, modern: bool
) -> None:
    async with piped(mcp) as client:
        await client.open()
        start = client.start_modern if modern else client.start
        doomed = await start("tools/call", tool("after", seconds=50))
        await wait_all_tasks_blocked()
        await client.notify("notifications/cancelled", {"requestId": doomed, "reason": "enough"})
        await start("tools/call", tool("after", seconds=100), id="other")
        assert (await client.hear())["id"] == "other"


@pytest.mark.requirement("C1")
@pytest.mark.parametrize("params", [{}, {"requestId": None}, {"requestId": []}, {"requestId": 999}])
async def test_a_cancellation_of_nothing_is_ignored(mcp: MCPServer, params: dict[str, Any]) -> None:
    async with piped(mcp) as client:
        await client.notify("notifications/cancelled", params)
        await client.open()
        await client.notify("notifications/cancelled", params)
        await client.start("ping")
        assert (await client.hear())["result"] == {}


@pytest.mark.requirement("J3")
@pytest.mark.parametrize("modern", [True, False])
async def test_an_id_in_flight_is_not_taken_again(mcp: MCPServer, autojump_clock: MockClock, modern: bool) -> None:
    async with piped(mcp) as client:
        await client.open()
        start = client.start_modern if modern else client.start
        await start("tools/call", tool("after", seconds=5), id="same")
        await start("tools/call", tool("after", seconds=5), id="same")
        assert (await client.hear())["error"]["code"] == -32600
        assert text(await client.hear()) == "after 5"


@pytest.mark.requirement("I10", "R1")
async def test_a_handler_asks_in_the_way_of_its_era(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.start("tools/call", tool("size"), id="legacy")
        asked = await client.hear()
        assert asked["method"] == "elicitation/create"
        await client.say({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"size": 4}}})
        assert text(await client.hear()) == "4"
        await client.start_modern("tools/call", tool("size"))
        first = (await client.hear())["result"]
        (key,) = first["inputRequests"]
        answers = {"inputResponses": {key: {"action": "decline"}}, "requestState": first["requestState"]}
        await client.start_modern("tools/call", {**tool("size"), **answers})
        assert text(await client.hear()) == "decline"


@pytest.mark.requirement("U2", "U3", "U6", "U8")
async def test_a_subscription_tells_of_changes_until_it_is_cancelled(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.start_modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=5)
        first = await client.hear(modern=True)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["_meta"][SUBSCRIPTION_ID_KEY] == 5
        await client.start_modern("tools/call", tool("grow"))
        heard = [await client.hear(modern=True) for _ in range(2)]
        assert {message.get("method") for message in heard} == {"notifications/tools/list_changed", None}
        await client.notify("notifications/cancelled", {"requestId": 5})
        await client.start_modern("tools/call", tool("grow"))
        assert text(await client.hear()) == "grown"
        await client.stdin.aclose()
        assert await client.rest() == []


@pytest.mark.requirement("U7", "IO3")
async def test_the_end_of_stdin_ends_subscriptions_with_their_results(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.start_modern("subscriptions/listen", {"notifications": {}}, id="sub")
        await client.hear(modern=True)
        await client.stdin.aclose()
        (end,) = await client.rest()
        assert end["id"] == "sub"
        assert end["result"]["_meta"][SUBSCRIPTION_ID_KEY] == "sub"


@pytest.mark.requirement("T16")
async def test_a_session_hears_of_changes_on_the_same_pipe(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.start("tools/call", tool("grow"))
        heard = [await client.hear() for _ in range(2)]
        assert "notifications/tools/list_changed" in {message.get("method") for message in heard}


@pytest.mark.requirement("J1", "J2", "IO1")
@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"nonsense\n", -32700, None),
        (b"\xff\xfe\n", -32700, None),
        (b'{"jsonrpc":"2.0","id":3}\n', -32600, 3),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}\n', -32600, None),
        (b"[" * 9_000 + b"\n", -32700, None),
    ],
)
async def test_an_invalid_line_gets_an_error_and_the_next_line_is_served(
    mcp: MCPServer, line: bytes, code: int, id: Any
) -> None:
    async with piped(mcp) as client:
        await client.say(line)
        answer = await client.hear()
        assert (answer["error"]["code"], answer.get("id")) == (code, id)
        await client.start("ping")
        assert (await client.hear())["result"] == {}


@pytest.mark.parametrize("cut", [1, 100, 1_000])
async def test_a_line_that_is_too_long_gets_an_error_however_it_arrives(mcp: MCPServer, cut: int) -> None:
    async with piped(mcp, max_message=500) as client:
        long = b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 20_000 + b'"}\n'
        for at in range(0, len(long), cut):
            await client.say(long[at : at + cut])
        answer = await client.hear()
        assert answer["error"]["code"] == -32700
        await client.start("ping")
        assert (await client.hear())["result"] == {}


async def test_lines_may_come_in_pieces_together_blank_or_with_carriage_returns(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        await client.open()
        for number in (1, 2, 3):
            client._legacy.asked(number, "ping")
        pings = [b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % number for number in (1, 2, 3)]
        for byte in b"\n \r\n" + pings[0] + b"\r\n" + pings[1] + b"\n":
            await client.say(bytes([byte]))
        await client.say(pings[2])
        await client.stdin.aclose()
        assert {message["id"] for message in await client.rest()} == {1, 2, 3}


@pytest.mark.requirement("J5")
async def test_notifications_and_stray_responses_are_never_answered(mcp: MCPServer) -> None:
    async with piped(mcp) as client:
        for _ in range(2):
            await client.notify("notifications/whatever")
            await client.notify("ping", {"_meta": {PROTOCOL_VERSION_KEY: MODERN}})
            await client.say({"jsonrpc": "2.0", "id": 77, "result": {}})
            await client.say({"jsonrpc": "2.0", "id": 77, "error": {"code": 1, "message": "x"}})
            if client._legacy._asked:
                break
            await client.open()
        await client.stdin.aclose()
        assert await client.rest() == []


@pytest.mark.requirement("IO3", "I9")
async def test_an_extension_hears_clients_of_both_eras() -> None:
    heard: list[str] = []
    extension = Extension("com.example/echo")

    @extension.notification("notifications/echo")
    async def notified(ctx: Context, params: dict[str, Any]) -> None:
        heard.append(ctx.protocol_version)

    @extension.method("echo/say", declared_only=False)
    async def say(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    capabilities: dict[str, Any] = {"extensions": {"com.example/echo": {}}}
    modern = {"_meta": {PROTOCOL_VERSION_KEY: MODERN, CLIENT_CAPABILITIES_KEY: capabilities}}
    offer = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    async with piped(MCPServer("t", extensions=[extension])) as client:
        await client.notify("notifications/echo", modern)
        await client.start_modern("echo/say")
        assert (await client.hear())["result"]["resultType"] == "complete"
        await client.start_modern("echo/other")
        assert (await client.hear())["error"]["code"] == -32601
        await client.start("initialize", offer)
        assert "com.example/echo" in (await client.hear())["result"]["capabilities"]["extensions"]
        await client.notify("notifications/echo")
        await wait_all_tasks_blocked()
    assert heard == [MODERN, LEGACY]


async def test_at_the_end_of_stdin_calls_have_a_moment_to_finish(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.start("tools/call", tool("after", seconds=0.9), id="l")
        await client.start_modern("tools/call", tool("after", seconds=0.8), id="m")
        await client.stdin.aclose()
        assert {message["id"]: text(message) for message in await client.rest()} == {"l": "after 0.9", "m": "after 0.8"}
        await client.ended.wait()
        assert trio.current_time() == pytest.approx(0.9)


@pytest.mark.requirement("IO3", "I9")
async def test_calls_that_take_longer_are_answered_with_an_error(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.start("tools/call", tool("after", seconds=60), id="l")
        await client.start_modern("tools/call", tool("after", seconds=60), id="m")
        await client.stdin.aclose()
        assert {message["id"]: "error" in message for message in await client.rest()} == {"l": True, "m": True}
        await client.ended.wait()
        assert trio.current_time() == pytest.approx(1)


async def test_a_session_that_ends_by_itself_leaves_no_modern_request_without_an_answer(
    mcp: MCPServer, autojump_clock: MockClock
) -> None:
    @mcp.tool
    async def leave(ctx: Context) -> str:
        assert ctx.session is not None
        ctx.session.close()
        return "left"

    @mcp.tool
    async def stays() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    for stubborn in (False, True):
        async with piped(mcp) as client:
            await client.open()
            await client.start_modern("tools/call", tool("after", seconds=60), id="m")
            if stubborn:
                await client.start_modern("tools/call", tool("stays"), id="s")
            await wait_all_tasks_blocked()
            await client.start("tools/call", tool("leave"), id="l")
            answered = {message["id"]: "error" in message for message in await client.rest() if "id" in message}
            assert answered["m"] is True
            await client.ended.wait()


async def test_without_anything_to_do_it_ends_at_once(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await client.stdin.aclose()
        assert await client.rest() == []
        await client.ended.wait()
        assert trio.current_time() == 0


async def test_a_session_on_stdio_does_not_idle_out(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with piped(mcp) as client:
        await client.open()
        await trio.sleep(50_000)
        await client.start("ping")
        assert (await client.hear())["result"] == {}


@pytest.mark.requirement("auth-76")
async def test_nothing_is_asked_of_callers_on_a_pipe() -> None:
    mcp = MCPServer("test", auth=BearerAuth(StaticTokenVerifier({}), required_scopes=["mcp:read"]))

    @mcp.tool(auth=require_roles("hr"), hide=True)
    async def w(ctx: Context) -> str:
        return f"{ctx.token} {get_access_token()}"

    async with piped(mcp) as client:
        await client.open()
        for start in (client.start, client.start_modern):
            await start("tools/list")
            assert [it["name"] for it in (await client.hear())["result"]["tools"]] == ["w"]
            await start("tools/call", tool("w"))
            assert text(await client.hear()) == "None None"
