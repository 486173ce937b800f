"""What becomes of a request whose sender cannot be judged, and of headers that must not be believed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import BOTH, HOST, JSON, LEGACY, request, serving, two_users
from trio_mcp import ANONYMOUS, CannotTell, Context, MCPServer, Principal
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.dispatch.options import Options
from trio_mcp.testing.asgi import asgi_client
from trio_mcp.transports.asgi import Receive, Scope, Send

ALICE = "Bearer alice"
INITIALIZE = request(
    1, "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
)


class Own(BaseException):
    """What nobody catches by accident."""


def raising(error: BaseException, *, sync: bool = False) -> MCPServer:
    def in_thread(exchange: HttpRequestView) -> Principal | None:
        raise error

    async def in_loop(exchange: HttpRequestView) -> Principal | None:
        raise error

    return MCPServer("test", authenticate=in_thread if sync else in_loop)


@pytest.mark.parametrize(
    "error",
    [
        CannotTell("the authorization server is away"),
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        trio.TooSlowError(),
        ExceptionGroup("two ways", [OSError("one"), CannotTell("other")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_who_cannot_be_judged_now_keeps_the_token_and_comes_back(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(raising(error)) as wire:
        exchange = wire.initialize(headers={"authorization": ALICE})
        assert await exchange.head() == 503
        assert exchange.headers["retry-after"] == "5"
        assert "www-authenticate" not in exchange.headers
        fault = await exchange.error()
        assert (fault["code"], fault["data"]) == (-32603, {"reason": "cannot_authenticate"})
        assert refused(wire.app.service.metrics.render()[0]) == {'status="503",reason="cannot_authenticate"': 1}
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == ["request refused"]


async def test_an_authenticator_that_hangs_cannot_tell(autojump_clock: MockClock) -> None:
    async def authenticate(exchange: HttpRequestView) -> Principal | None:
        await trio.sleep_forever()
        raise AssertionError

    async with serving(MCPServer("test", authenticate=authenticate)) as wire:
        assert await wire.initialize().head() == 503


class Tokens:
    """Callable in each way a function can be given in."""

    def __init__(self) -> None:
        self.in_loop: list[bool] = []

    def sync(self, request: HttpRequestView) -> Principal | None:
        self.in_loop.append(trio.lowlevel.in_trio_task())
        return Principal("ann") if request.header("authorization") == ALICE else None

    async def asynchronous(self, request: HttpRequestView) -> Principal | None:
        return self.sync(request)

    def delegates(self, request: HttpRequestView) -> Any:
        return self.asynchronous(request)

    async def __call__(self, request: HttpRequestView) -> Principal | None:
        return self.sync(request)


@pytest.mark.parametrize(
    ("form", "in_loop"),
    [
        (lambda tokens: tokens.sync, False),
        (lambda tokens: partial(tokens.sync), False),
        (lambda tokens: tokens.asynchronous, True),
        (lambda tokens: partial(tokens.asynchronous), True),
        (lambda tokens: tokens.delegates, True),
        (lambda tokens: tokens, True),
    ],
    ids=["sync", "partial of sync", "async", "partial of async", "sync that gives an awaitable", "object"],
)
async def test_an_authenticator_is_sync_in_a_thread_or_async_in_the_loop(
    form: Callable[[Tokens], Any], in_loop: bool
) -> None:
    tokens = Tokens()
    async with serving(MCPServer("test", authenticate=form(tokens))) as wire:
        assert await wire.initialize(headers={"authorization": ALICE}).head() == 200
        assert await wire.initialize().head() == 401
    assert tokens.in_loop == [in_loop, in_loop]


async def test_a_sync_authenticator_is_asked_while_the_threads_of_sync_tools_are_all_busy() -> None:
    began, go = threading.Semaphore(0), threading.Event()
    mcp = MCPServer("test", authenticate=Tokens().sync, options=Options(worker_threads=1))

    @mcp.tool
    def wait() -> str:
        began.release()
        go.wait(60)
        return "done"

    @mcp.tool
    async def quick() -> str:
        return "quick"

    try:
        async with serving(mcp) as wire:
            session = await wire.open(headers={"authorization": ALICE})
            waiting = session.tool("wait")
            await trio.to_thread.run_sync(began.acquire)
            await session.tool("quick").result()
            go.set()
            await waiting.result()
    finally:
        go.set()


async def test_a_sync_authenticator_that_hangs_cannot_tell(autojump_clock: MockClock) -> None:
    go = threading.Event()

    def authenticate(request: HttpRequestView) -> Principal | None:
        go.wait(60)
        return None

    try:
        async with serving(MCPServer("test", authenticate=authenticate)) as wire:
            assert await wire.initialize().head() == 503
    finally:
        go.set()


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret detail"),
        ExceptionGroup("mixed", [OSError("away"), KeyError("sub")]),
        SystemExit("secret detail"),
        Own("secret detail"),
        BaseExceptionGroup("mixed", [OSError("away"), SystemExit(2)]),
    ],
    ids=["a bug", "a bug beside an outage", "an exit", "no Exception", "an exit beside an outage"],
)
async def test_an_authenticator_that_fails_is_a_500_with_a_reference_and_one_log_line(
    error: BaseException, sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(raising(error, sync=sync)) as wire:
        for _ in range(2):
            exchange = wire.initialize()
            assert await exchange.head() == 500
            assert "www-authenticate" not in exchange.headers
            fault = await exchange.error()
            assert fault["code"] == -32603
            assert "secret" not in fault["message"]
            (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert (record.message, record.exc_info is not None) == ("authenticate failed", True)
            assert fields_of(record)["ref"] in fault["message"]
            caplog.clear()
        assert refused(wire.app.service.metrics.render()[0]) == {'status="500",reason="authenticate_failed"': 2}


async def test_what_is_no_principal_is_a_fault_of_the_authenticator(caplog: pytest.LogCaptureFixture) -> None:
    async def authenticate(exchange: HttpRequestView) -> Principal | None:
        return "ann"  # type: ignore[return-value]

    async with serving(MCPServer("test", authenticate=authenticate)) as wire:
        assert await wire.initialize().head() == 500
    assert "return a Principal" in str(caplog.records[-1].exc_info)


@pytest.mark.parametrize(
    ("principal", "status"),
    [
        (Principal(""), 401),
        (Principal("", "https://idp"), 401),
        (Principal("", client_id="machine"), 200),
        (ANONYMOUS, 200),
        (None, 401),
    ],
)
async def test_a_caller_needs_a_name_unless_anonymous_is_meant(principal: Principal | None, status: int) -> None:
    async def authenticate(exchange: HttpRequestView) -> Principal | None:
        return principal

    async with serving(MCPServer("test", authenticate=authenticate)) as wire:
        assert await wire.initialize().head() == status


@pytest.mark.parametrize("second", [ALICE, "Bearer bob"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_two_authorization_headers_are_refused_even_when_equal(second: str, method: str) -> None:
    async with serving(MCPServer("test", authenticate=two_users)) as wire:
        session = await wire.open(headers={"authorization": ALICE})
        pairs = [("host", HOST), ("accept", BOTH), ("content-type", JSON), ("mcp-session-id", session.id)]
        exchange = wire.start(method, [*pairs, ("authorization", ALICE), ("Authorization", second)], request(1, "ping"))
        assert await exchange.head() == 400
        assert exchange.headers["www-authenticate"] == (
            'Bearer error="invalid_request", error_description="Authorization comes more than once"'
        )
        assert await session.start("ping").result() == {}


async def test_headers_between_nodes_are_seen_by_no_handler_route_or_mounted_app() -> None:
    mcp = MCPServer("test")
    seen: list[list[str]] = []

    @mcp.tool
    async def headers(ctx: Context) -> None:
        seen.append(names_of(ctx.headers or ()))

    @mcp.custom_route("/mine")
    async def mine(request: HttpRequestView) -> str:
        seen.append(names_of(request.headers))  # type: ignore[attr-defined]
        seen.append(names_of(dict(request.scope["headers"])))  # type: ignore[attr-defined]
        return ""

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(names_of(dict(scope["headers"])))

    mcp.mount("/app", mounted)
    hop: dict[str, str | None] = {"trio-mcp-hop": "node1.b.1.x", "trio-mcp-later": "y", "x-mine": "z"}
    async with serving(mcp) as wire:
        session = await wire.open()
        await session.tool("headers", headers=hop).result()
        await wire.modern(headers=hop).tool("headers").result()
        await wire.start("GET", hop, path="/mine").head()
        await wire.start("GET", hop, path="/app/x").raw.finished.wait()
    assert len(seen) == 5
    assert all("x-mine" in names for names in seen)
    assert not [name for names in seen for name in names if name.startswith("trio-mcp-")]


def names_of(headers: Iterable[str | bytes]) -> list[str]:
    """Header names as text, however they are kept."""
    return [name if isinstance(name, str) else name.decode() for name in headers]


def refused(page: bytes) -> dict[str, float]:
    """The labels and values of `trio_mcp_refused_total`."""
    found = [line for line in page.decode().splitlines() if line.startswith("trio_mcp_refused_total{")]
    lines = [line.removeprefix("trio_mcp_refused_total{").partition("} ") for line in found]
    return {",".join(sorted(labels.split(","), reverse=True)): float(value) for labels, _, value in lines}


REFUSED: list[tuple[int, str, dict[str, str | None], bytes]] = [
    (421, "host", {"host": "evil.example"}, b"{}"),
    (403, "origin", {"origin": "http://evil.example"}, b"{}"),
    (401, "unauthenticated", {"authorization": None}, b"{}"),
    (415, "content_type", {"content-type": "text/plain"}, b"{}"),
    (406, "accept", {"accept": "text/html"}, b"{}"),
    (413, "body", {}, b" " * 101),
    (400, "message", {}, b"?"),
    (404, "unknown", {"mcp-session-id": "node.x"}, b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
    (400, "message", {}, b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
]


@pytest.mark.parametrize(("status", "reason", "headers", "body"), REFUSED)
async def test_every_refusal_is_counted_and_a_burst_of_them_is_one_line(
    status: int, reason: str, headers: dict[str, str | None], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(MCPServer("test", authenticate=two_users), max_body=100) as wire:
        for _ in range(3):
            assert await wire.post(body, {"authorization": ALICE, **headers}).head() == status
        assert refused(wire.app.service.metrics.render()[0]) == {f'status="{status}",reason="{reason}"': 3}
    (line,) = [record for record in caplog.records if fields_of(record).get("status") == status]
    assert fields_of(line)["reason"] == reason


async def test_the_next_burst_tells_how_many_the_last_one_hid(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(MCPServer("test")) as wire:
        for pause in (0, 0, 0, 11):
            await trio.sleep(pause)
            assert await wire.initialize(headers={"host": "evil.example"}).head() == 421
    lines = [fields_of(record) for record in caplog.records if record.message == "request refused"]
    assert [(line["host"], line["more"]) for line in lines] == [("evil.example", None), ("evil.example", 2)]


async def test_initialize_is_an_operation(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(MCPServer("test"), max_sessions=1) as wire:
        session = await wire.open()
        await session.start("ping").result()
        assert await wire.initialize().head() == 503
        assert await wire.post(request(1, "initialize", {"protocolVersion": 7})).answer()
        counted = operations(wire.app.service.metrics.render()[0])
    assert counted == {("", LEGACY): 1, ("full", ""): 1, ("-32602", ""): 1}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a log line of ours says besides its name."""
    fields: dict[str, Any] = getattr(record, "mcp_fields", {})
    return fields


def operations(page: bytes) -> dict[tuple[str, str], float]:
    """How many `initialize` there were, by error and version."""
    found = {}
    for line in page.decode().splitlines():
        if line.startswith("mcp_server_operation_duration_seconds_count{") and 'mcp_method_name="initialize"' in line:
            labels = dict(pair.split("=") for pair in line.partition("{")[2].partition("}")[0].split(","))
            key = labels["error_type"].strip('"'), labels["mcp_protocol_version"].strip('"')
            found[key] = float(line.rpartition(" ")[2])
    return found


async def test_paths_that_nobody_serves_and_apps_that_do_not_run_are_counted() -> None:
    async with serving(MCPServer("test")) as wire:
        for _ in range(2):
            assert await wire.start("GET", path="/wp-admin").head() == 404
        app = wire.app
        assert refused(app.service.metrics.render()[0]) == {'status="404",reason="path"': 2}
    async with asgi_client(app) as client:
        assert await client.start("POST", "/mcp", [("host", HOST)]).head() == 503
    assert refused(app.service.metrics.render()[0])['status="503",reason="not_running"'] == 1


async def fails_in_cleanup() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("cleanup")


@pytest.mark.parametrize("where", ["route", "mount", "authenticate"])
async def test_a_cleanup_that_fails_while_its_request_is_cancelled_fails_nobody_else(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def hangs(*args: Any) -> Any:
        if args[0] is not None and isinstance(args[0], dict) and args[0]["type"] == "lifespan":
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_in_cleanup)
            await trio.sleep_forever()

    mcp = MCPServer("test", authenticate=hangs if where == "authenticate" else None)
    mcp.custom_route("/route")(hangs)
    mcp.mount("/mount", hangs)
    async with serving(mcp) as wire:
        wire.start("GET", path="/mcp" if where == "authenticate" else f"/{where}")
        await wait_all_tasks_blocked()
    name = "authenticate failed" if where == "authenticate" else "route failed"
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [name]
