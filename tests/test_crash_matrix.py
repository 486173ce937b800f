"""Whatever user code raises, wherever: another client goes on, the error has a reference, and one log line tells of it.

The matrix is {what is raised} by {where} by {session, 2026-07-28, stdio}. Cells that cannot exist:

- `on_session`, `on_restore` and tasks of sessions on 2026-07-28: that version has no sessions;
- `on_restore` on stdio: the process is the session, and nobody else can go on with it;
- custom routes on stdio, which has no HTTP; beside `/mcp` they belong to no version, and are called from a client of each;
- another client at the end of the lifespan: none is left when it comes; and it belongs to the server, not to a version;
- another client on stdio: there is one; its next request stands for it. A hook or a task that crashes there ends the process,
  which its client can start anew: it is the session, and would answer nothing any more;
- `KeyboardInterrupt` where Trio or a foreign server owns SIGINT: it is Ctrl+C and passes, see `tests/dispatch/test_user_code.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import kept_cancelled
from tests.transports.http.harness import Wire, serving
from tests.transports.test_stdio import piped
from trio_mcp import Context, MCPServer
from trio_mcp.auth.principal import ANONYMOUS
from trio_mcp.dispatch.call import Client
from trio_mcp.dispatch.session import Session
from trio_mcp.dispatch.user_code import owning_sigint
from trio_mcp.observability.logs import leaves
from trio_mcp.protocol.errors import SessionClosed
from trio_mcp.sessions.directory import Snapshot

OFFER = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class Own(BaseException):
    """As a library might have one."""


RAISED: dict[str, Callable[[BaseException], BaseException]] = {
    "SystemExit": lambda kept: SystemExit(2),
    "KeyboardInterrupt": lambda kept: KeyboardInterrupt(),
    "GeneratorExit": lambda kept: GeneratorExit(),
    "asyncio.CancelledError": lambda kept: asyncio.CancelledError(),
    "own BaseException": lambda kept: Own("mine"),
    "BaseExceptionGroup": lambda kept: BaseExceptionGroup("", [SystemExit(2), ValueError("x")]),
    "BaseExceptionGroup with Cancelled": lambda kept: BaseExceptionGroup("", [SystemExit(2), kept]),
    "Cancelled that was kept": lambda kept: kept,
}

HANDLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tool sync": ("tools/call", {"name": "sync_tool", "arguments": {}}),
    "tool async": ("tools/call", {"name": "async_tool", "arguments": {}}),
    "tool that returns an awaitable": ("tools/call", {"name": "wrapped_tool", "arguments": {}}),
    "resource": ("resources/read", {"uri": "r://x"}),
    "template": ("resources/read", {"uri": "r://t/1"}),
    "prompt": ("prompts/get", {"name": "prompt"}),
    "completion": (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "r://t/{x}"}, "argument": {"name": "x", "value": ""}},
    ),
}


@pytest.fixture(autouse=True)
def sigint_is_ours() -> Iterator[None]:
    with owning_sigint():
        yield


@pytest.fixture(params=RAISED)
async def raised(request: pytest.FixtureRequest) -> BaseException:
    return RAISED[request.param](await kept_cancelled())


def server_that_raises(raised: BaseException) -> MCPServer:
    mcp = MCPServer("crashes")

    @mcp.tool
    def sync_tool() -> str:
        raise raised

    @mcp.tool
    async def async_tool() -> str:
        raise raised

    @mcp.tool
    def wrapped_tool() -> Any:
        return async_tool()

    @mcp.resource("r://x")
    async def resource() -> str:
        raise raised

    @mcp.resource("r://t/{x}")
    async def template(x: str) -> str:
        raise raised

    @mcp.prompt
    async def prompt() -> str:
        raise raised

    @mcp.completion("r://t/{x}", "x")
    async def complete(value: str) -> list[str]:
        raise raised

    @mcp.custom_route("/route")
    async def route(request: Any) -> str:
        raise raised

    @mcp.tool
    async def start_task(ctx: Context) -> str:
        async def task() -> None:
            raise raised

        assert ctx.session is not None
        ctx.session.start_soon(task)
        return "started"

    @mcp.tool
    async def fine() -> str:
        return "fine"

    return mcp


def the_line(caplog: pytest.LogCaptureFixture, raised: BaseException) -> str:
    """The reference in the one line that tells of a fault; the line names what was raised."""
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert list(leaves(record.exc_info[1])) == list(leaves(raised))
    reference: str = record.mcp_fields["ref"]  # type: ignore[attr-defined]
    return reference


def told(answer: dict[str, Any]) -> str:
    """What the client hears of a failure: a tool's is a result, all others are errors."""
    if "error" in answer:
        assert answer["error"]["code"] == -32603
        message: str = answer["error"]["message"]
        return message
    assert answer["result"]["isError"] is True
    text: str = answer["result"]["content"][0]["text"]
    return text


@pytest.mark.parametrize("front", ["session", "2026-07-28"])
@pytest.mark.parametrize("where", HANDLERS)
async def test_a_handler_over_http(
    where: str, front: str, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    method, params = HANDLERS[where]
    async with serving(server_that_raises(raised)) as wire:
        client, other = (await wire.open(), await wire.open()) if front == "session" else (wire.modern(), wire.modern())
        answer = await client.start(method, params).answer()
        assert the_line(caplog, raised) in told(answer)
        for each in (client, other):
            assert (await each.tool("fine").result())["content"][0]["text"] == "fine"


@pytest.mark.parametrize("front", ["session", "2026-07-28"])
@pytest.mark.parametrize("where", HANDLERS)
async def test_a_handler_over_stdio(
    where: str, front: str, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    method, params = HANDLERS[where]
    async with piped(server_that_raises(raised)) as client:
        start: Any = client.start_modern
        if front == "session":
            await client.open()
            start = client.start
        await start(method, params)
        answer = await client.hear()
        assert the_line(caplog, raised) in told(answer)
        await start("tools/call", {"name": "fine", "arguments": {}})
        assert (await client.hear())["result"]["content"][0]["text"] == "fine"


async def test_a_custom_route(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(server_that_raises(raised)) as wire:
        session, modern = await wire.open(), wire.modern()
        exchange = wire.start("GET", path="/route")
        assert await exchange.head() == 500
        assert json.loads(await exchange.raw.body())["ref"] == the_line(caplog, raised)
        for each in (session, modern):
            assert (await each.tool("fine").result())["content"][0]["text"] == "fine"


async def test_a_mounted_app(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise raised

    mcp = server_that_raises(raised)
    mcp.mount("/app", app)
    async with serving(mcp) as wire:
        exchange = wire.start("GET", path="/app/x")
        assert await exchange.head() == 500
        assert json.loads(await exchange.raw.body())["ref"] == the_line(caplog, raised)
        assert (await wire.modern().tool("fine").result())["content"][0]["text"] == "fine"


Hook = Callable[[Session], object]


def async_hook(raised: BaseException) -> Hook:
    async def hook(session: Session) -> None:
        raise raised

    return hook


def sync_hook(raised: BaseException) -> Hook:
    def hook(session: Session) -> None:
        raise raised

    return hook


@pytest.mark.parametrize("make", [async_hook, sync_hook])
async def test_on_session_ends_its_session_only(
    make: Callable[[BaseException], Hook], raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    mcp = server_that_raises(raised)
    mcp.on_session(make(raised))
    async with serving(mcp) as wire:
        # The session is opened, and ended by its hook.
        exchange = wire.initialize()
        await exchange.result()
        await _closed(wire)
        assert the_line(caplog, raised)
        assert await _status(wire, exchange.headers["mcp-session-id"]) == 404
        assert (await wire.modern().tool("fine").result())["content"][0]["text"] == "fine"


@pytest.mark.parametrize("make", [async_hook, sync_hook])
async def test_on_restore_ends_its_session_only(
    make: Callable[[BaseException], Hook], raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    mcp = server_that_raises(raised)
    mcp.on_restore(make(raised))
    async with serving(mcp) as wire:
        other = await wire.open()
        snapshot = Snapshot(
            id="n1.restored", epoch=1, principal_digest=ANONYMOUS.digest, version="2025-11-25", client=Client({}, {})
        )
        with pytest.raises(SessionClosed):
            await wire.app.hub.restore(snapshot, ANONYMOUS)
        assert the_line(caplog, raised)
        assert (await other.tool("fine").result())["content"][0]["text"] == "fine"


async def test_a_task_of_a_session_over_http_ends_its_session_only(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server_that_raises(raised)) as wire:
        other, client = await wire.open(), await wire.open()
        await client.tool("start_task").answer()
        await _closed(wire, left=1)
        assert the_line(caplog, raised)
        assert await _status(wire, client.id) == 404
        assert (await other.tool("fine").result())["content"][0]["text"] == "fine"


@pytest.mark.parametrize("where", ["task", "async on_session", "sync on_session"])
async def test_over_stdio_the_session_is_the_process_and_ends_with_it(
    where: str, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    mcp = server_that_raises(raised)
    if where != "task":
        mcp.on_session(async_hook(raised) if where == "async on_session" else sync_hook(raised))
    async with piped(mcp) as client:
        await client.start("initialize", OFFER, id="open")
        assert (await client.hear())["id"] == "open"
        if where == "task":
            await client.start("tools/call", {"name": "start_task", "arguments": {}})
        await client.rest()
        await client.ended.wait()
        assert the_line(caplog, raised)


@pytest.mark.parametrize("when", ["start", "end"])
async def test_a_lifespan_raises_an_exception_and_nothing_else(when: str, raised: BaseException) -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        if when == "start":
            raise raised
        yield
        raise raised

    app = MCPServer("x", lifespan=lifespan).http_app()
    with pytest.raises(Exception) as crash:  # noqa: PT011 - that it is one at all is what is shown
        async with app.running():
            pass
    assert list(leaves(crash.value)) == list(leaves(raised))


async def _closed(wire: Wire, left: int = 0) -> None:
    with trio.fail_after(20):
        while len(wire.app.hub) > left:
            await trio.testing.wait_all_tasks_blocked()
            await trio.lowlevel.checkpoint()


async def _status(wire: Wire, session_id: str) -> int:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    return await wire.post(ping, {"mcp-session-id": session_id}).raw.head()
