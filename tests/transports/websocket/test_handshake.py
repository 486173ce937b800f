"""The handshake of a WebSocket: what the gate says before the 101, and who is behind the connection."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from trio.testing import MockClock

from tests.transports.http.harness import two_users
from tests.transports.websocket.harness import Door, bearer, offering, open_door
from trio_mcp import Context, MCPServer, Principal
from trio_mcp.auth import AccessToken, BearerAuth, StaticTokenVerifier
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.transports.http.route_request import RouteRequest
from trio_mcp.transports.websocket.handshake import bearer_of

RESOURCE = "http://127.0.0.1:8000/mcp"


@pytest.fixture
def mcp() -> MCPServer:
    mcp = MCPServer("test")

    @mcp.tool
    async def who(ctx: Context) -> str:
        return ctx.principal.subject

    return mcp


def with_tokens(**tokens: Any) -> BearerAuth:
    verifier = StaticTokenVerifier({name: AccessToken("c", subject=name, **more) for name, more in tokens.items()})
    return BearerAuth(verifier, resource=RESOURCE)


@pytest.mark.requirement("ws-3", "ws-4")
@pytest.mark.parametrize(
    ("header", "status"),
    [
        (("host", "evil.example"), 421),
        (("origin", "https://evil.example"), 403),
        (("origin", "null"), 403),
        (("origin", "https://app.example"), 101),
        (("origin", "http://127.0.0.1:8000"), 101),
        (("x-nothing", "1"), 101),
    ],
)
async def test_host_and_origin_are_checked_before_the_101(mcp: MCPServer, header: tuple[str, str], status: int) -> None:
    async with offering(mcp, allowed_origins=["https://app.example"]) as door:
        socket = await door.knock("mcp", headers=[header])
        assert socket.status == status
        if status != 101:
            assert "error" in json.loads(socket.body)
            assert socket.finished.is_set()


@pytest.mark.requirement("ws-6")
@pytest.mark.parametrize(
    ("offered", "status"),
    [([], 400), (["foo"], 400), (["MCP"], 400), (["foo", "mcp"], 101), (["mcp", "foo"], 101), ([bearer("x")], 400)],
)
async def test_mcp_must_be_offered_and_is_chosen(mcp: MCPServer, offered: list[str], status: int) -> None:
    async with offering(mcp) as door:
        socket = await door.knock(*offered)
        assert socket.status == status
        assert socket.subprotocol == ("mcp" if status == 101 else None)
        if status == 400:
            assert "mcp is required" in json.loads(socket.body)["error"]["message"]


@pytest.mark.requirement("ws-7")
async def test_paths_are_those_of_http(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        answers = {
            path: (await door.knock("mcp", path=path)).status for path in ("/mcp/", "/other", "/livez", "/readyz")
        }
        assert answers == {"/mcp/": 101, "/other": 404, "/livez": 200, "/readyz": 200}


@pytest.mark.requirement("ws-39")
async def test_where_it_is_off_a_handshake_is_the_get_that_it_is(mcp: MCPServer) -> None:
    async with offering(mcp, websocket=False) as door:
        socket = await door.knock("mcp", headers=[("sec-websocket-version", "13")])
        assert socket.status == 400
        message = json.loads(socket.body)["error"]["message"]
        assert message == "Mcp-Session-Id is missing, and a WebSocket is not served here: --websocket turns it on"


async def test_a_server_that_cannot_answer_a_handshake_closes_it(mcp: MCPServer) -> None:
    async with offering(mcp) as door:
        socket = await door.knock("foo", extensions=[])
        assert (socket.status, socket.body) == (0, b"")


@pytest.mark.requirement("ws-5")
@pytest.mark.parametrize(
    ("protocols", "headers", "status"),
    [
        (["mcp"], [], 401),
        (["mcp"], [("authorization", "Bearer wrong")], 401),
        (["mcp"], [("authorization", "Bearer alice")], 101),
        (["mcp", bearer("alice")], [], 101),
        ([bearer("alice"), "mcp"], [], 101),
        (["mcp", bearer("wrong")], [], 401),
        (["mcp", "mcp.bearer.a"], [], 401),
        (["mcp", bearer("alice")], [("authorization", "Bearer alice")], 400),
        (["mcp", bearer("alice"), bearer("alice")], [], 400),
    ],
)
@pytest.mark.parametrize("by", ["tokens", "function"])
async def test_a_token_comes_as_a_header_or_beside_the_subprotocol(
    mcp: MCPServer, by: str, protocols: list[str], headers: list[tuple[str, str]], status: int
) -> None:
    async with offering(mcp, auth=with_tokens(alice={}) if by == "tokens" else two_users_without_case) as door:
        socket = await door.knock(*protocols, headers=headers)
        assert socket.status == status
        if status == 101:
            assert socket.subprotocol == "mcp"
            socket.call_modern("who")
            assert (await socket.hear())["result"]["content"][0]["text"] == "alice"
        elif status == 401:
            assert socket.headers["www-authenticate"].startswith("Bearer")


async def two_users_without_case(request: HttpRequestView) -> Principal | None:
    """The text of the token must not be anywhere but in the one header."""
    assert request.header("sec-websocket-protocol") is None
    return await two_users(request)


@pytest.mark.requirement("ws-5")
@pytest.mark.parametrize("by", ["tokens", "function"])
async def test_a_connection_ends_with_its_authentication(mcp: MCPServer, by: str, autojump_clock: MockClock) -> None:
    began = trio.current_time()

    async def for_a_minute(request: HttpRequestView) -> Principal:
        return Principal("alice", claims={"exp": time.time() + 60})

    auth: Any = for_a_minute
    if by == "tokens":
        auth = with_tokens(alice={"expires_at": 60})
        auth.now = lambda: trio.current_time() - began
    async with offering(mcp, auth=auth) as door:
        socket = await door.connect(headers=[("authorization", "Bearer alice")])
        await socket.open()
        await socket.finished.wait()
        assert socket.closed == (1008, "authentication expired")
        assert 59 <= trio.current_time() - began <= 60 + 40


@pytest.mark.parametrize(
    ("expires", "ends"),
    [
        (10**400, False),
        (1e300, False),
        (float("inf"), False),
        (float("nan"), False),
        ("tomorrow", False),
        (-(10**400), True),
        (-1e300, True),
        (float("-inf"), True),
    ],
    ids=["10**400", "1e300", "inf", "nan", "text", "-10**400", "-1e300", "-inf"],
)
async def test_an_expiry_that_no_clock_will_reach_is_none_and_one_long_ago_is_over(
    mcp: MCPServer, expires: Any, ends: bool
) -> None:
    def absurd(request: HttpRequestView) -> Principal:
        return Principal("alice", claims={"exp": expires})

    async with offering(mcp, auth=absurd) as door:
        socket = await door.connect()
        if ends:
            await socket.finished.wait()
            assert socket.closed == (1008, "authentication expired")
        else:
            await socket.open()


async def test_an_authenticator_that_fails_is_a_500_with_a_reference(mcp: MCPServer) -> None:
    def fail(request: HttpRequestView) -> Principal:
        raise ZeroDivisionError

    async with offering(mcp, auth=fail) as door:
        socket = await door.knock("mcp")
        assert socket.status == 500
        assert "ref" in json.loads(socket.body)["error"]["message"]


async def test_a_route_is_served_to_a_handshake_as_to_a_get(mcp: MCPServer) -> None:
    left = trio.Event()

    @mcp.custom_route("/route")
    async def route(request: RouteRequest) -> Any:
        assert await request.body() == b""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first"})
            assert (await receive())["type"] == "http.disconnect"
            left.set()

        return answer

    async with offering(mcp) as door:
        socket = await door.knock("mcp", path="/route")
        assert (socket.status, socket.body) == (200, b"first")
        socket.say("ignored")
        socket.leave()
        await left.wait()


@pytest.mark.requirement("ws-32")
async def test_there_are_only_so_many(mcp: MCPServer) -> None:
    async with offering(mcp, max_websockets=2) as door:
        first, _ = await door.connect(), await door.connect()
        refused = await door.knock("mcp")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        first.leave()
        await first.finished.wait()
        await door.connect()


@pytest.mark.requirement("ws-32")
async def test_their_sessions_count_as_sessions(mcp: MCPServer) -> None:
    async with offering(mcp, max_sessions=1) as door:
        first, second = await door.connect(), await door.connect()
        await first.open()
        second.start(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
        )
        assert "1 sessions" in (await second.hear())["error"]["message"]
        refused = await door.knock("mcp")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")


@pytest.mark.requirement("ws-38")
@pytest.mark.parametrize("prefix", [None, "", "/tools"])
async def test_without_a_lifespan_it_says_what_is_missing_also_mounted_in_starlette(
    mcp: MCPServer, prefix: str | None
) -> None:
    app = mcp.http_app(websocket=True)
    whole: Any = app if prefix is None else Starlette(routes=[Mount(prefix, app)])
    async with trio.open_nursery() as nursery:
        socket = await Door(whole, nursery).knock("mcp", path=(prefix or "") + "/mcp")
    assert (socket.status, socket.headers["retry-after"]) == (503, "1")
    assert "lifespan is not running" in json.loads(socket.body)["error"]["message"]
    async with app.running(), open_door(whole) as door:
        socket = await door.knock("mcp", path=(prefix or "") + "/mcp")
        assert socket.status == 101
        await socket.open()
        assert (await door.knock("mcp", path=(prefix or "") + "/other")).status == 404


async def test_a_server_mounted_in_a_server_has_none(mcp: MCPServer) -> None:
    outer = MCPServer("outer")
    outer.mount("/inner", mcp)
    async with offering(outer) as door:
        assert (await door.knock("mcp", path="/inner/mcp")).status == 400
        assert (await door.knock("mcp")).status == 101


@pytest.mark.parametrize(
    ("protocols", "values"),
    [
        ((), []),
        (("mcp",), []),
        (("mcp.bearer.YQ",), [b"Bearer a"]),
        (("mcp.bearer.YQ==", "mcp.bearer.Yg"), [b"Bearer a", b"Bearer b"]),
        (("mcp.bearer.",), [b"Bearer "]),
        (("mcp.bearer.-_-_",), [b"Bearer -_-_"]),
        (("mcp.bearer.Cg",), [b"Bearer Cg"]),
    ],
)
def test_what_a_subprotocol_carries_is_visible_text_or_stays_as_it_is(
    protocols: tuple[str, ...], values: list[bytes]
) -> None:
    assert bearer_of(protocols) == values
