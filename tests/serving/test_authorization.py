"""A node whose authorization comes from settings alone: our own listener and Hypercorn, and an issuer on loopback."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.auth.issuer import Issuer, token
from tests.cluster.peers import listening
from tests.rig.http_connection import HttpConnection, Response, fetch
from tests.rig.waiting import PATIENCE, until
from tests.transports.http.harness import BOTH, JSON, LEGACY, request
from trio_mcp import Context, MCPServer
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.fetching import Response as Fetched
from trio_mcp.serving.launch import serve_on
from trio_mcp.serving.node import serve
from trio_mcp.serving.settings import load
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.responses import send_json
from trio_mcp.transports.listener import serve as serve_asgi

pytestmark = pytest.mark.sockets

WELL_KNOWN = "/.well-known/oauth-protected-resource/mcp"
RESOURCE = "https://mcp.example.com/mcp"
INITIALIZE = json.dumps(
    request(
        0, "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    )
).encode()
SERVERS = pytest.mark.parametrize("server", ["own", "hypercorn"])


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An authorization server on loopback."""
    listeners, url = await listening(0)
    issuer = Issuer(url=url)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        issuer.asked.append(scope["path"])
        answer = issuer.answers.get(f"{url}{scope['path']}", Fetched(404))
        assert isinstance(answer, Fetched)
        await send_json(send, answer.status, answer.body, [])

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_asgi, app, listeners)
        yield issuer
        nursery.cancel_scope.cancel("the test is over")


@asynccontextmanager
async def node(issuer: Issuer, *, said: list[list[str]] | None = None, **settings: Any) -> AsyncIterator[str]:
    """A node that accepts tokens of the issuer; its URL without a path. `said` gets what it waits for, each time that it says so."""
    mcp = MCPServer("x")

    @mcp.tool
    async def who(ctx: Context) -> str:
        return ctx.principal.subject

    given = {"port": 0, "auth_issuer": issuer.url, "auth_resource": RESOURCE, "auth_required_scopes": "mcp:read"}
    send, receive = trio.open_memory_channel[list[str]](2)

    def announce(urls: list[str], waits_for: Sequence[str]) -> None:
        send.send_nowait(urls)
        if said is not None:
            said.append([*waits_for])

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                assert await serve(mcp, load(**{**given, **settings}), announce=announce) == 0

            nursery.start_soon(run)
            (url,) = await receive.receive()
            yield url.removesuffix("/mcp")
            signal.raise_signal(signal.SIGTERM)


def good(issuer: Issuer, **changes: Any) -> dict[str, str]:
    """The headers of a POST with a good token, unless changed."""
    now = int(time.time())
    given = {"iss": issuer.url, "iat": now, "exp": now + 300, **changes}
    return {**POST, "authorization": f"Bearer {token(**given)}"}


POST = {"content-type": JSON, "accept": BOTH}


async def initialize(url: str, headers: dict[str, str]) -> Response:
    return await fetch(f"{url}/mcp", "POST", headers, INITIALIZE)


@SERVERS
@pytest.mark.requirement("auth-1")
@pytest.mark.requirement("auth-7")
@pytest.mark.requirement("auth-60")
async def test_one_setting_makes_a_node_ask_for_tokens(server: str) -> None:
    async with issuing() as issuer, node(issuer, server=server) as url:
        metadata = await fetch(f"{url}{WELL_KNOWN}")
        assert metadata.json() == {
            "resource": RESOURCE,
            "authorization_servers": [issuer.url],
            "scopes_supported": ["mcp:read"],
            "bearer_methods_supported": ["header"],
        }
        refused = await initialize(url, POST)
        assert refused.status == 401
        told = 'Bearer scope="mcp:read", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"'
        assert refused.header("www-authenticate") == told
        assert (await initialize(url, good(issuer, aud="https://elsewhere.example.com/mcp"))).status == 401
        assert (await initialize(url, good(issuer, scope="other"))).status == 403
        served = await initialize(url, good(issuer))
        assert served.status == 200
        session = {"mcp-session-id": served.header("mcp-session-id"), "mcp-protocol-version": LEGACY}
        call = json.dumps(request(1, "tools/call", {"name": "who", "arguments": {}})).encode()
        answer = await fetch(f"{url}/mcp", "POST", {**good(issuer), **session}, call)
        assert b'"ann"' in answer.body
        assert (await fetch(f"{url}/mcp", "POST", {**POST, **session}, call)).status == 401
        assert issuer.asked == ["/.well-known/oauth-authorization-server", "/keys"]


@SERVERS
async def test_a_refusal_does_not_wait_for_the_body(server: str) -> None:
    async with issuing() as issuer, node(issuer, server=server) as url:
        async with await _connection(url) as stream:
            await stream.send_all(_head(length=1_000_000) + b"{")
            answer = await _read_head(stream)
            assert answer.startswith(b"HTTP/1.1 401 ")
            # What would follow on the connection is the rest of the body. Hypercorn closes it without saying so.
            assert b"\r\nconnection: close\r\n" in answer.lower() or server == "hypercorn"
            while await stream.receive_some():
                pass


async def test_after_a_refusal_whose_body_was_small_the_connection_goes_on() -> None:
    async with issuing() as issuer, node(issuer) as url:
        async with await _connection(url) as stream:
            connection = HttpConnection(stream, urlsplit(url).netloc)
            for headers, status in ((POST, 401), (good(issuer), 200)):
                await connection.request("POST", "/mcp", headers, INITIALIZE)
                assert (await connection.response()).status == status
                assert connection.reusable


@pytest.mark.requirement("auth-25")
async def test_a_head_that_is_too_long_is_refused_by_the_listener() -> None:
    async with issuing() as issuer, node(issuer) as url:
        async with await _connection(url) as stream:
            await stream.send_all(_head(authorization="Bearer " + "a" * 33_000))
            assert (await _read_head(stream)).startswith(b"HTTP/1.1 431 ")
        assert (await initialize(url, {**POST, "authorization": f"Bearer {'a' * 16_385}"})).status == 401


@pytest.mark.requirement("auth-28")
@SERVERS
async def test_without_keys_the_node_answers_but_is_not_ready_and_says_so(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.serving.node.SETTLE_SECONDS", 0.0)
    said: list[list[str]] = []
    async with issuing() as issuer:
        good_keys, issuer.answers[f"{issuer.url}/keys"] = issuer.answers[f"{issuer.url}/keys"], Fetched(500)
        async with node(issuer, said=said, server=server) as url:
            assert said == [["keys"]]
            assert (await fetch(f"{url}/readyz")).status == 503
            assert (await fetch(f"{url}{WELL_KNOWN}")).status == 200
            served = await initialize(url, good(issuer))
            assert (served.status, served.header("retry-after")) == (503, "5")
            assert served.header("www-authenticate") == ""
            issuer.answers[f"{issuer.url}/keys"] = good_keys

            async def ready() -> bool:
                return (await fetch(f"{url}/readyz")).status == 200

            await until(ready, "the node is ready")
            assert said == [["keys"], []]
            assert (await initialize(url, good(issuer))).status == 200


@pytest.mark.requirement("auth-34")
@SERVERS
async def test_a_node_does_not_start_whose_issuer_is_another(server: str) -> None:
    async with issuing() as issuer:
        issuer.describe(issuer="https://evil.example.com")
        settings = load(port=0, server=server, auth_issuer=issuer.url, auth_resource=RESOURCE)
        with pytest.raises(AuthConfigurationError) as caught:
            await serve_on(MCPServer("x"), "http", settings)
        assert issuer.url in str(caught.value)
        assert "https://evil.example.com" in str(caught.value)


async def _connection(url: str) -> trio.SocketStream:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return await trio.open_tcp_stream(parts.hostname, parts.port)


def _head(*, length: int = 0, **headers: str) -> bytes:
    given = {"host": "127.0.0.1", "content-type": JSON, "accept": BOTH, "content-length": str(length), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode()


async def _read_head(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        assert more, data
        data += more
    return data.partition(b"\r\n\r\n")[0] + b"\r\n"
