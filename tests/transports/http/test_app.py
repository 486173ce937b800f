"""The app around the endpoint: its lifespan, probes, paths of the user's own, mounted apps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.http.harness import Wire, serving, two_users
from trio_mcp import Context, MCPServer, Options
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.probes import CHALLENGE
from trio_mcp.transports.http.route_request import RouteRequest

Wired = list[dict[str, Any]]


class Lifespan:
    """The server's side of the ASGI lifespan protocol."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.said: Wired = []
        self.stop = trio.Event()
        self._told = trio.Event()
        self._asked = False

    async def run(self) -> None:
        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        self.said.append(dict(message))
        self._told.set()

    async def answer(self) -> str:
        await self._told.wait()
        kind: str = self.said[-1]["type"]
        return kind


@pytest.mark.requirement("gap-lifespan")
async def test_before_its_lifespan_the_app_answers_503_with_the_fix(caplog: pytest.LogCaptureFixture) -> None:
    app = MCPServer("test").http_app()
    async with asgi_client(app) as client:
        wire = Wire(app, client)
        for exchange in (wire.initialize(), wire.modern().start("server/discover"), wire.start("GET")):
            assert await exchange.head() == 503
            assert "lifespan=lambda _: app.running()" in (await exchange.json())["error"]["message"]
            assert exchange.headers["retry-after"]
        async with app.running():
            assert await wire.initialize().head() == 200
        assert await wire.initialize().head() == 503
    assert "request before the lifespan ran" in {record.message for record in caplog.records}


@pytest.mark.requirement("gap-lifespan")
async def test_the_asgi_lifespan_runs_the_server_and_the_users_lifespan() -> None:
    steps = []

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[dict[str, str]]:
        steps.append("up")
        yield {"db": "open"}
        steps.append("down")

    mcp = MCPServer("test", lifespan=lifespan)

    @mcp.tool
    async def db(ctx: Context) -> str:
        return str(ctx.lifespan_context["db"])

    app = mcp.http_app()
    async with asgi_client(app) as client, trio.open_nursery() as nursery:
        server = Lifespan(app)
        nursery.start_soon(server.run)
        assert await server.answer() == "lifespan.startup.complete"
        result = await Wire(app, client).modern().tool("db").result()
        assert result["content"][0]["text"] == "open"
        server.stop.set()
    assert [message["type"] for message in server.said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert steps == ["up", "down"]


@pytest.mark.requirement("gap-lifespan")
async def test_a_lifespan_that_fails_tells_the_server_so(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        if server.name == "test":
            raise OSError("no database")
        yield

    server = Lifespan(MCPServer("test", lifespan=lifespan).http_app())
    await server.run()
    (said,) = server.said
    assert said["type"] == "lifespan.startup.failed"
    assert said["message"].startswith("OSError: no database")


async def test_probes_answer_in_every_state_and_to_any_host() -> None:
    app = MCPServer("test").http_app()
    async with asgi_client(app) as client:
        wire = Wire(app, client)

        async def probe(path: str) -> tuple[int, str]:
            exchange = wire.start("GET", {"host": "10.0.0.7"}, path=path)
            return await exchange.head(), json.loads(await exchange.raw.body())["status"]

        assert await probe("/livez") == (200, "starting")
        assert await probe("/readyz") == (503, "starting")
        async with app.running():
            assert await probe("/livez") == await probe("/healthz") == (200, "ready")
            assert await probe("/readyz") == (200, "ready")
            app.life.enter(NodeState.DRAINING)
            assert await probe("/livez") == (200, "draining")
            assert await probe("/readyz") == (503, "draining")


async def test_a_probe_of_the_users_own_leaves_the_challenge_of_a_peer_to_the_node() -> None:
    """Without the proof the peers of a node would not trust its address, and it would get no request of theirs."""
    mcp = MCPServer("test")

    @mcp.custom_route("/livez")
    async def livez(request: object) -> str:
        return "mine"

    app = mcp.http_app()
    async with asgi_client(app) as client, app.running():
        wire = Wire(app, client)

        async def livez_says(headers: dict[str, str]) -> bytes:
            exchange = wire.start("GET", headers, path="/livez")
            assert await exchange.head() == 200
            return await exchange.raw.body()

        challenge = {CHALLENGE.decode(): "0123456789abcdef" * 2}
        assert await livez_says(challenge) == b"mine", "there are no peers"
        app.probes.prove = lambda asked: asked.decode()[::-1]
        assert json.loads(await livez_says(challenge))["proof"] == "fedcba9876543210" * 2
        assert await livez_says({}) == await livez_says({CHALLENGE.decode(): "anything"}) == b"mine"


async def ask(wire: Wire, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    exchange = wire.start(method, path=path)
    return await exchange.head(), exchange.headers, await exchange.raw.body()


async def test_what_is_not_here_is_404_in_json() -> None:
    async with serving(MCPServer("test")) as wire:
        for path in ("/", "/mcp/x", "/mcpx", "/.well-known/oauth-protected-resource", "/favicon.ico"):
            status, headers, body = await ask(wire, path)
            assert (status, headers["content-type"]) == (404, "application/json")
            assert json.loads(body) == {"error": "not found"}


async def test_a_custom_route_answers_what_its_handler_returns() -> None:
    mcp = MCPServer("test")

    @mcp.custom_route("/text")
    async def text(request: RouteRequest) -> str:
        return f"{request.method} {request.header(b'host')}"

    @mcp.custom_route("/json")
    async def as_json(request: RouteRequest) -> tuple[int, dict[str, int]]:
        return 201, {"a": 1}

    @mcp.custom_route("/nothing", methods=["post"])
    async def nothing(request: RouteRequest) -> None:
        assert await request.body(100) == b""

    @mcp.custom_route("/gone")
    async def gone(request: RouteRequest) -> tuple[int, None]:
        return 410, None

    async with serving(mcp) as wire:
        assert (await ask(wire, "/text"))[2] == b"GET 127.0.0.1:8000"
        status, headers, body = await ask(wire, "/json")
        assert (status, headers["content-type"], body) == (201, "application/json", b'{"a":1}')
        assert (await ask(wire, "/nothing", "POST"))[0] == 204
        assert (await ask(wire, "/gone"))[0] == 410
        status, headers, _ = await ask(wire, "/nothing")
        assert (status, headers["allow"]) == (405, "POST")


async def test_two_routes_may_share_a_path_by_method() -> None:
    mcp = MCPServer("test")

    @mcp.custom_route("/note")
    async def read(request: RouteRequest) -> str:
        return "read"

    @mcp.custom_route("/note", methods=["PUT", "POST"])
    async def write(request: RouteRequest) -> str:
        return "written"

    async with serving(mcp) as wire:
        assert (await ask(wire, "/note"))[2] == b"read"
        assert (await ask(wire, "/note", "PUT"))[2] == b"written"
        status, headers, _ = await ask(wire, "/note", "DELETE")
        assert (status, headers["allow"]) == (405, "GET, POST, PUT")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/json", b"{a", "the body is not JSON: "),
        ("/json", b"\xff", "the body is not JSON: "),
        ("/json", b"[" * 100_000, "nested too deeply"),
        ("/text", b"\xff", "the body is not UTF-8: invalid start byte at byte 0"),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_clients_fault(
    path: str, body: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 would count as the server's, with an error in the log for whatever anybody sends."""
    mcp = MCPServer("test")

    @mcp.custom_route("/json", methods=["POST"])
    async def takes_json(request: RouteRequest) -> dict[str, object]:
        return dict(await request.json())

    @mcp.custom_route("/text", methods=["POST"])
    async def takes_text(request: RouteRequest) -> str:
        return await request.text()

    async with serving(mcp) as wire:
        exchange = wire.start("POST", body=body, path=path)
        assert await exchange.head() == 400
        assert words in (await exchange.raw.json())["error"]
    assert "route failed" not in caplog.messages


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return
    body = json.dumps({"path": scope["path"], "root": scope["root_path"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_a_mounted_app_sees_its_own_part_of_the_path() -> None:
    mcp = MCPServer("test")
    mcp.mount("/api", echo)
    async with serving(mcp) as wire:
        assert json.loads((await ask(wire, "/api/x"))[2]) == {"path": "/api/x", "root": "/api"}
        assert json.loads((await ask(wire, "/api"))[2]) == {"path": "/api/", "root": "/api"}
        assert (await ask(wire, "/apix"))[0] == 404
        assert await wire.initialize().head() == 200


async def test_custom_routes_and_mounted_apps_are_not_served_under_a_foreign_host() -> None:
    mcp = MCPServer("test")
    mcp.mount("/api", echo)

    @mcp.custom_route("/text")
    async def text(request: RouteRequest) -> str:
        return "hello"

    async with serving(mcp) as wire:
        for path in ("/text", "/api/x"):
            refused = wire.start("GET", {"host": "evil.example.com"}, path=path)
            assert await refused.head() == 421


async def test_a_server_may_say_itself_who_its_callers_are() -> None:
    async with serving(MCPServer("test", authenticate=two_users)) as wire:
        assert await wire.initialize().head() == 401
        assert await wire.initialize(headers={"authorization": "Bearer alice"}).head() == 200


async def test_a_server_mounted_in_a_server_has_its_lifespan_run_and_its_path_found() -> None:
    inner, outer = MCPServer("inner"), MCPServer("outer")
    outer.mount("/inner", inner.http_app())
    async with serving(outer) as wire:
        exchange = wire.post(b"", path="/inner/mcp")
        assert await exchange.head() == 400
        found = await wire.modern().start("server/discover", path="/inner/mcp").result()
        assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "inner"


async def test_a_websocket_is_refused_without_a_traceback() -> None:
    app: HttpApp = MCPServer("test").http_app()
    said: Wired = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(dict(message))

    async with app.running():
        await app({"type": "websocket", "path": "/mcp", "headers": []}, receive, send)
    assert [message["type"] for message in said] == ["websocket.close"]


async def test_on_another_server_a_client_that_does_not_read_its_json_is_given_up(autojump_clock: MockClock) -> None:
    mcp = MCPServer("t", options=Options(write_timeout=20))
    app = mcp.http_app()
    began = trio.current_time()

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await trio.sleep_forever()

    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
    ]
    async with app.running():
        with trio.fail_after(100):
            await app({"type": "http", "method": "POST", "path": "/mcp", "headers": headers}, receive, send)
        assert trio.current_time() - began == 20
