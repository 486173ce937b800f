"""Requests that our listener hands to the endpoint without ASGI: the answers are the same, and what is kept of a head is never wrong."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from tests.transports.listener.harness import RawClient, Server, answers, serving
from trio_mcp import Context, MCPServer
from trio_mcp.auth.principal import HttpRequestView, Principal
from trio_mcp.transports.http.allowed import Hosts
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.gate import Rules
from trio_mcp.transports.listener import Limits

BOTH = "application/json, text/event-stream"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MIRRORED = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}


def server() -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool
    async def report(ctx: Context) -> str:
        await ctx.report_progress(1)
        return "done"

    @mcp.tool
    async def large() -> str:
        return "x" * 300_000

    @mcp.tool
    async def lengths(ctx: Context, pad: str = "") -> str:
        headers = ctx.headers
        assert headers is not None
        return headers["content-length"]

    return mcp


def request(
    body: Any = None, *, method: str = "POST", target: str = "/mcp", version: str = "1.1", **headers: Any
) -> bytes:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given: dict[str, str | None] = {"host": "localhost", "accept": BOTH, "content-type": "application/json"}
    if body is not None:
        given["content-length"] = str(len(content))
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode() + content


def call(tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments or {}, **more},
    }


def modern(tool: str, arguments: dict[str, Any] | None = None, *, token: int | None = None, **headers: Any) -> bytes:
    meta = META if token is None else {**META, "progressToken": token}
    mirrored = {name.replace("-", "_"): value for name, value in MIRRORED.items()}
    return request(call(tool, arguments, _meta=meta), **{**mirrored, "mcp_name": tool, **headers})


@asynccontextmanager
async def endpoint(
    *, directly: bool, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[HttpApp, Server]]:
    app = server().http_app(**options)
    async with app.running(), serving(app, limits, app.service.account, direct=app if directly else None) as ours:
        yield app, ours


async def open_session(client: RawClient) -> str:
    await client.say(request({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": CLIENT}))
    (opened,) = answers(await client.hear(), closed=False)
    assert opened.status == 200
    return opened.headers[b"mcp-session-id"].decode()


def settled(heard: bytes, session: str) -> bytes:
    """Without what differs between two runs."""
    heard = re.sub(rb"date: [^\r]*\r\n", b"", heard).replace(session.encode(), b"SESSION")
    return re.sub(rb"retry: \d+", b"retry: N", re.sub(rb"ref [0-9a-f]+", b"ref R", heard))


def header_lines(heard: bytes) -> list[bytes]:
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    return [first, *sorted(fields), body]


CALL = call("add", {"a": 1, "b": 2})
CASES: dict[str, bytes] = {
    "a call of a session": request(CALL, mcp_session_id="SESSION"),
    "a call that streams": request(call("report", _meta={"progressToken": 1}), mcp_session_id="SESSION"),
    "an answer in pieces": request(call("large"), mcp_session_id="SESSION"),
    "a call in a chunked body": request(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(CALL)), json.dumps(CALL).encode()),
        mcp_session_id="SESSION",
        content_length=None,
        transfer_encoding="chunked",
    ),
    "a client of JSON alone": request(CALL, mcp_session_id="SESSION", accept="application/json"),
    "a client of streams alone": request(CALL, mcp_session_id="SESSION", accept="text/event-stream"),
    "HTTP/1.0": request(CALL, mcp_session_id="SESSION", version="1.0"),
    "HTTP/1.0, to be kept": request(CALL, mcp_session_id="SESSION", version="1.0", connection="keep-alive"),
    "the last request": request(CALL, mcp_session_id="SESSION", connection="close"),
    "a path with escapes": request(CALL, mcp_session_id="SESSION", target="/%6dcp?x=%20"),
    "a path with a slash": request(CALL, mcp_session_id="SESSION", target="/mcp/"),
    "a target with a host": request(CALL, mcp_session_id="SESSION", target="http://localhost/mcp"),
    "another path": request(CALL, mcp_session_id="SESSION", target="/mcpx"),
    "a notification": request({"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_session_id="SESSION"),
    "an unknown session": request(CALL, mcp_session_id="unknown"),
    "two sessions": request(CALL).replace(b"accept:", b"mcp-session-id: a\r\nmcp-session-id: b\r\naccept:", 1),
    "no session": request(CALL),
    "an unknown version": request(CALL, mcp_session_id="SESSION", mcp_protocol_version="1999-01-01"),
    "a hop that nobody signed": request(CALL, mcp_session_id="SESSION", trio_mcp_hop="node2.b.1.0"),
    "an unknown tool": request(call("none"), mcp_session_id="SESSION"),
    "the end of a session": request(method="DELETE", mcp_session_id="SESSION"),
    "a modern call": modern("add", {"a": 1, "b": 2}),
    "a modern call that streams": modern("report", token=1),
    "a modern call whose headers differ": modern("add", mcp_name="other"),
    "no JSON": request(b"{", mcp_session_id="SESSION"),
    "another host": request(CALL, mcp_session_id="SESSION", host="evil.example"),
    "a page of this host": request(CALL, mcp_session_id="SESSION", origin="http://localhost"),
    "another page": request(CALL, mcp_session_id="SESSION", origin="https://evil.example"),
    "a preflight": request(method="OPTIONS", origin="http://localhost", access_control_request_headers="x"),
    "no media type": request(CALL, mcp_session_id="SESSION", content_type=None),
    "a client of neither": request(CALL, mcp_session_id="SESSION", accept="text/html"),
    "a method that is none": request(method="PUT", mcp_session_id="SESSION"),
    "HEAD": request(method="HEAD", mcp_session_id="SESSION"),
    "a body beyond the bound": request(b"x" * 3000, mcp_session_id="SESSION"),
    "a body that continues": request(CALL, mcp_session_id="SESSION", expect="100-continue"),
}


async def said_within_a_second(client: RawClient) -> bytes:
    """What comes until a second of silence; a stream that stays open has its first comment later."""
    heard = bytearray()
    with suppress(trio.BrokenResourceError):
        while True:
            with trio.move_on_after(1) as silence:
                data = await client.stream.receive_some()
            if silence.cancelled_caught or not data:
                break
            heard += data
    return bytes(heard)


async def heard_from(*, directly: bool, what: bytes) -> list[list[bytes]]:
    """The answers to a request, and to the same once more on the same connection."""
    async with endpoint(directly=directly, max_body=2000) as (_, ours):
        session = await open_session(ours.connect())
        client = ours.connect()
        heard: list[list[bytes]] = []
        for _ in range(2):
            with suppress(trio.BrokenResourceError):
                await client.say(what.replace(b"SESSION", session.encode()))
            heard.append(header_lines(settled(await said_within_a_second(client), session)))
        return heard


@pytest.mark.parametrize("what", CASES)
async def test_the_answer_is_the_same_without_asgi(what: str, autojump_clock: trio.testing.MockClock) -> None:
    over_asgi = await heard_from(directly=False, what=CASES[what])
    assert over_asgi[0][0].startswith(b"HTTP/1.")
    assert await heard_from(directly=True, what=CASES[what]) == over_asgi


async def status(client: RawClient, what: bytes) -> int:
    await client.say(what)
    (answer,) = answers(await client.hear(), closed=False)
    return answer.status


async def test_a_head_that_was_let_in_is_not_under_other_rules() -> None:
    async with endpoint(directly=True) as (app, ours):
        client = ours.connect()
        asked = modern("add", {"a": 1, "b": 2})
        assert [await status(client, asked) for _ in range(2)] == [200, 200]
        gate = app.endpoint.gate
        before = gate.rules
        gate.rules = Rules(Hosts(["other.example"]), None)
        assert await status(client, asked) == 421
        gate.rules = before
        assert await status(client, asked) == 200


async def test_who_sends_is_asked_for_every_request_with_the_same_head() -> None:
    asked: list[str | None] = []

    async def authenticate(request: HttpRequestView) -> Principal | None:
        asked.append(request.header("authorization"))
        return None if len(asked) == 3 else Principal("me")

    async with endpoint(directly=True, auth=authenticate) as (_, ours):
        client = ours.connect()
        sent = modern("add", {"a": 1, "b": 2}, authorization="Bearer x")
        assert [await status(client, sent) for _ in range(4)] == [200, 200, 401, 200]
    assert asked == ["Bearer x"] * 4


async def test_a_head_that_was_refused_is_judged_again() -> None:
    async with endpoint(directly=True) as (app, ours):
        client = ours.connect()
        sent = modern("add", {"a": 1, "b": 2}, host="other.example")
        assert [await status(client, sent) for _ in range(2)] == [421, 421]
        app.endpoint.gate.rules = Rules(Hosts(["other.example"]), None)
        assert await status(client, sent) == 200


async def test_requests_with_the_same_head_share_fields_that_nobody_can_change() -> None:
    seen: list[Any] = []
    mcp = server()

    @mcp.tool
    async def look(ctx: Context) -> None:
        call = ctx._call
        seen.append(call.headers)

    app = mcp.http_app()
    async with app.running(), serving(app, direct=app) as ours:
        client = ours.connect()
        assert [await status(client, modern("look")) for _ in range(2)] == [200, 200]
    first, second = seen
    assert first is second
    with pytest.raises(TypeError):
        first[b"x"] = b"y"


@pytest.mark.parametrize("other", [("add", "adb"), ("2026-07-28", "2026-07-29"), ("tools/call", "tools/list")])
async def test_a_head_that_agreed_with_one_body_is_compared_with_the_next(other: tuple[str, str]) -> None:
    async with endpoint(directly=True) as (_, ours):
        client = ours.connect()
        asked = modern("add", {"a": 1, "b": 2})
        head, _, body = asked.partition(b"\r\n\r\n")
        differing = head + b"\r\n\r\n" + body.replace(other[0].encode(), other[1].encode())
        assert len(differing) == len(asked)
        assert await status(client, asked) == await status(client, asked) == 200
        await client.say(differing)
        (answer,) = answers(await client.hear(), closed=False)
        assert json.loads(answer.body)["error"]["code"] == -32020
        assert await status(client, asked) == 200
